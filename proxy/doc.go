// Package proxy is the server: it is the only package that knows fasthttp.
//
// A request reads from top to bottom in pipeline.go: guard, face by path, body,
// agent, encode, call, then either a JSON answer written by the worker or a
// stream pumped by stream.go on a connection taken over from the server. The
// backend's side stands in upstream.go and its neighbours.
package proxy
