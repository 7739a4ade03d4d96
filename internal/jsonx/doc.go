// Package jsonx reads and writes JSON bytes without building values.
//
// A proxy sees most documents once, needs a handful of their members and must
// hand the rest on byte for byte. Dec pulls values out of a document in one
// pass, checking the syntax of everything it walks over, including what the
// caller skips. Check tells whether a whole document is well formed, and can
// refuse duplicate keys, which two parsers rarely resolve in the same way.
// Scanner tells when a value that arrives in pieces has become complete.
// The Append functions write.
//
// Nothing here recurses: nesting costs one bit a level, so a document made of
// opening brackets ends in an error and not in a stack overflow, which no
// recover can catch. Nothing here converts numbers unless asked: 1e400 and
// 9007199254740993 pass through as they were written.
//
// The grammar is that of RFC 8259, to the letter. A byte order mark is an
// error.
package jsonx
