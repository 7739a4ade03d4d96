// Package sse reads and writes server-sent events.
//
// Reader is a push parser: the caller hands it chunks as they come off the
// connection and takes the frames out. It keeps the bytes of every frame as
// they were, so that a frame nobody has to change is forwarded without being
// written anew, and it copies only frames that are split over chunks.
//
// It follows the event stream grammar of the WHATWG HTML standard, section
// 9.2.6, with two differences that serve a proxy: comments and frames without
// data come out as well, since they are forwarded too, and the last frame is
// available although the blank line after it is missing, since agents forget it.
package sse
