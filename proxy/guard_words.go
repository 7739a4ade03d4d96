package proxy

import (
	"bytes"
	"io"
	"net"

	"github.com/dragoman-proxy/dragoman/translate"
)

// opening keeps the first bytes of a request as they come in. Of a head that
// fasthttp refuses nothing is left when that is answered; the opening tells in
// whose words. It serves for nothing else: of a request that came in one piece
// with the one before, or under TLS, it knows nothing.
type opening struct {
	b [120]byte
	n uint8
	// ended says that the client will say no more.
	ended bool
}

// note takes in what a read yielded. Only the goroutine that reads calls it.
func (o *opening) note(p []byte, err error) {
	o.ended = o.ended || err == io.EOF
	if int(o.n) < len(o.b) {
		o.n += uint8(copy(o.b[o.n:], p)) // #nosec G115 -- at most 120
	}
}

// forget makes ready for the next request.
func (o *opening) forget() { o.n = 0 }

// openingOf finds the opening of a client's connection, nil if it keeps none.
func openingOf(c net.Conn) *opening {
	if v := clientOf(c); v != nil {
		return &v.opening
	}
	return nil
}

// endedEarly reports whether a client closed its side of the connection within
// what was read of it. fasthttp takes a body in chunks without its last one for
// whole if that is where the connection ends; whoever has read the last chunk
// has not read on to the end of the connection.
func endedEarly(c net.Conn) bool {
	o := openingOf(c)
	return o != nil && o.ended
}

// wordsFor is the face in whose words a head that could not be read is refused.
func (s *Server) wordsFor(c net.Conn) *translate.Protocol {
	o := openingOf(c)
	if o == nil {
		return defaultFace
	}
	method, rest, ok := bytes.Cut(bytes.TrimLeft(o.b[:o.n], "\r\n"), []byte(" "))
	if !ok || len(rest) == 0 || rest[0] != '/' {
		return defaultFace
	}
	path := rest
	if i := bytes.IndexAny(path, " ?\r\n"); i >= 0 {
		path = path[:i]
	}
	return s.router.find(string(method), string(path)).face
}
