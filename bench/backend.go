package main

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
	"time"
)

// spacing is the time between two events of a spaced stream.
const spacing = 5 * time.Millisecond

// The backend's answers, rendered once: each frame is a chunk of its own, as
// servers of language models send them.
var (
	rawJSON = append(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(chatJSON)), chatJSON...)
	rawHead = []byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n")
	// rawFrames[0] holds the head too, and the last one the end of the body.
	rawFrames = chunkedFrames()
	rawBurst  = bytes.Join(rawFrames, nil)
)

func chunkedFrames() [][]byte {
	var out [][]byte
	for i, f := range frames {
		var b []byte
		if i == 0 {
			b = append(b, rawHead...)
		}
		b = fmt.Appendf(b, "%x\r\n%s\r\n", len(f), f)
		if i == len(frames)-1 {
			b = append(b, "0\r\n\r\n"...)
		}
		out = append(out, b)
	}
	return out
}

// runBackend speaks Chat Completions: a request with "stream":true gets the
// stream, all at once or, for the model "spaced", an event each 5 ms.
func runBackend() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go serveBackend(c)
	}
}

func serveBackend(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 0, 16<<10)
	for {
		body, rest, err := readRequest(c, &buf)
		if err != nil {
			return
		}
		switch {
		case !bytes.Contains(body, []byte(`"stream":true`)):
			_, err = c.Write(rawJSON)
		case bytes.Contains(body, []byte(`"spaced"`)):
			err = writeSpaced(c)
		default:
			_, err = c.Write(rawBurst)
		}
		if err != nil {
			return
		}
		buf = buf[:copy(buf, rest)]
	}
}

// writeSpaced sends an event each 5 ms by a clock that starts with the request,
// so that what is late does not shift the rest. The finish and [DONE] leave
// together, as they do elsewhere.
func writeSpaced(c net.Conn) error {
	start := time.Now()
	for i, f := range rawFrames[:events-1] {
		if i > 0 {
			time.Sleep(time.Until(start.Add(time.Duration(i) * spacing)))
		}
		if _, err := c.Write(f); err != nil {
			return err
		}
	}
	time.Sleep(time.Until(start.Add((events - 1) * spacing)))
	_, err := c.Write(rawTail)
	return err
}

var rawTail = bytes.Join(rawFrames[events-1:], nil)

// readRequest reads a request with a Content-Length into buf and returns its
// body, and what came behind it.
func readRequest(c net.Conn, buf *[]byte) (body, rest []byte, err error) {
	b := *buf
	head, length := -1, 0
	for {
		if head < 0 {
			if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
				head = i + 4
				if length, err = contentLength(b[:head]); err != nil {
					return nil, nil, err
				}
			}
		}
		if head >= 0 && len(b) >= head+length {
			*buf = b
			return b[head : head+length], b[head+length:], nil
		}
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := c.Read(b[len(b):cap(b)])
		if err != nil {
			return nil, nil, err
		}
		b = b[:len(b)+n]
	}
}

// contentLength finds the header in a head, whatever its case; 0 if it has none.
func contentLength(head []byte) (int, error) {
	const name = "content-length:"
	for line := range bytes.Lines(head) {
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			return strconv.Atoi(string(bytes.TrimSpace(line[len(name):])))
		}
	}
	return 0, nil
}
