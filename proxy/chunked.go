package proxy

import (
	"errors"
	"math"
)

// Bounds of what a backend may spend on framing that carries nothing.
const (
	maxChunkExtension = 4 << 10  // bytes of extension and padding in one chunk-size line
	maxTrailer        = 16 << 10 // bytes of trailers after the last chunk
)

var (
	errChunkSize      = errors.New("malformed chunk size")
	errChunkLine      = errors.New("chunk line does not end in CRLF")
	errChunkExtension = errors.New("chunk extension is too long")
	errChunkTrailer   = errors.New("chunked trailer is too long")
)

type chunkState uint8

const (
	chunkSizeFirst    chunkState = iota // the first digit of a size
	chunkSizeMore                       // further digits, or what follows them
	chunkPad                            // padding after a size
	chunkExt                            // an extension, up to CR
	chunkSizeLF                         // LF of the size line
	chunkData                           // payload
	chunkDataCR                         // CR after the payload
	chunkDataLF                         // LF after the payload
	chunkTrailerStart                   // the first byte of a trailer line, or CR of the end
	chunkTrailerLine                    // inside a trailer line
	chunkTrailerLF                      // LF of a trailer line
	chunkEndLF                          // the very last LF
	chunkEnd                            // the body is complete
)

// dechunker takes the chunked coding (RFC 9112, 7.1) off a body, in whatever
// pieces it arrives. Its own state is all it keeps, so a read that timed out in
// the middle of a size line costs nothing, which is what fasthttp's chunk reader
// cannot do. It is strict where leniency has led to request and response
// smuggling: lines end in CRLF and nothing else, sizes are plain hexadecimal
// and do not overflow.
//
// The zero value is ready for a new body.
type dechunker struct {
	left   uint64 // payload bytes that the current chunk still owes, or its size so far
	spent  int32  // bytes of the current extension, or of all trailers
	digits uint8
	state  chunkState
}

// decode consumes p and returns the payload in it as one contiguous slice of p:
// the first piece of payload stays where it is, later ones are moved up against
// it. The bytes of p are thereby overwritten; out is valid as long as p is.
//
// used is how much of p belongs to this body: less than len(p) only when done
// is true, and then the rest was not asked for. On an error out still holds the
// payload before the fault, so that what a reader sees does not depend on how
// the network cut the bytes.
func (d *dechunker) decode(p []byte) (out []byte, used int, done bool, err error) {
	s, w := 0, 0 // out is p[s:w]
	i := 0
	for i < len(p) {
		if d.state == chunkData {
			n := len(p) - i
			if uint64(n) > d.left {
				n = int(d.left)
			}
			if s == w {
				s, w = i, i+n
			} else {
				w += copy(p[w:], p[i:i+n])
			}
			i += n
			if d.left -= uint64(n); d.left == 0 {
				d.state = chunkDataCR
			}
			continue
		}
		c := p[i]
		i++
		switch d.state {
		case chunkSizeFirst:
			v := hexValue(c)
			if v < 0 {
				return p[s:w], i, false, errChunkSize
			}
			d.left, d.digits, d.spent, d.state = uint64(v), 1, 0, chunkSizeMore
		case chunkSizeMore:
			if v := hexValue(c); v >= 0 {
				if d.digits++; d.digits > 16 || d.left > math.MaxInt64>>4 {
					return p[s:w], i, false, errChunkSize
				}
				d.left = d.left<<4 | uint64(v)
				continue
			}
			switch c {
			case '\r':
				d.state = chunkSizeLF
			case ';':
				d.spent, d.state = 1, chunkExt
			case ' ', '\t':
				d.spent, d.state = 1, chunkPad
			case '\n':
				return p[s:w], i, false, errChunkLine
			default:
				return p[s:w], i, false, errChunkSize
			}
		case chunkPad:
			switch c {
			case '\r':
				d.state = chunkSizeLF
			case ';':
				d.state = chunkExt
			case ' ', '\t':
				if d.spent++; d.spent > maxChunkExtension {
					return p[s:w], i, false, errChunkExtension
				}
			default:
				return p[s:w], i, false, errChunkSize
			}
		case chunkExt:
			switch {
			case c == '\r':
				d.state = chunkSizeLF
			case c == '\n' || c == 0:
				return p[s:w], i, false, errChunkLine
			default:
				if d.spent++; d.spent > maxChunkExtension {
					return p[s:w], i, false, errChunkExtension
				}
			}
		case chunkSizeLF:
			if c != '\n' {
				return p[s:w], i, false, errChunkLine
			}
			if d.left == 0 {
				d.spent, d.state = 0, chunkTrailerStart
			} else {
				d.state = chunkData
			}
		case chunkDataCR:
			if c != '\r' {
				return p[s:w], i, false, errChunkLine
			}
			d.state = chunkDataLF
		case chunkDataLF:
			if c != '\n' {
				return p[s:w], i, false, errChunkLine
			}
			d.state = chunkSizeFirst
		case chunkTrailerStart:
			switch c {
			case '\r':
				d.state = chunkEndLF
			case '\n':
				return p[s:w], i, false, errChunkLine
			default:
				d.state = chunkTrailerLine
				if d.spent++; d.spent > maxTrailer {
					return p[s:w], i, false, errChunkTrailer
				}
			}
		case chunkTrailerLine:
			switch c {
			case '\r':
				d.state = chunkTrailerLF
			case '\n':
				return p[s:w], i, false, errChunkLine
			default:
				if d.spent++; d.spent > maxTrailer {
					return p[s:w], i, false, errChunkTrailer
				}
			}
		case chunkTrailerLF:
			if c != '\n' {
				return p[s:w], i, false, errChunkLine
			}
			d.state = chunkTrailerStart
		case chunkEndLF:
			if c != '\n' {
				return p[s:w], i, false, errChunkLine
			}
			d.state = chunkEnd
			return p[s:w], i, true, nil
		case chunkEnd:
			return p[s:w], i - 1, true, nil
		default:
			panic("BUG: unknown dechunker state")
		}
	}
	return p[s:w], i, d.state == chunkEnd, nil
}

func hexValue(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

const hexDigits = "0123456789abcdef"

// lastChunk ends a chunked body that has no trailers.
const lastChunk = "0\r\n\r\n"

// appendChunk appends payload to dst as one chunk. An empty payload appends
// nothing: a chunk of size zero would end the body.
func appendChunk(dst, payload []byte) []byte {
	if len(payload) == 0 {
		return dst
	}
	var line [16]byte
	i := putHex(line[:], len(line), len(payload))
	dst = append(dst, line[i:]...)
	dst = append(dst, '\r', '\n')
	dst = append(dst, payload...)
	return append(dst, '\r', '\n')
}

// putHex writes n in hexadecimal so that it ends before p[end], and returns
// where it begins.
func putHex(p []byte, end, n int) int {
	for {
		end--
		p[end] = hexDigits[n&15]
		if n >>= 4; n == 0 {
			return end
		}
	}
}

// chunkReserve is what chunkWriter keeps free for a size line: "hhhhhhhh\r\n".
const chunkReserve = 10

// chunkWriter builds one chunk around a payload whose length is known only when
// it is complete, without moving it: the size line is put right-aligned into
// the space reserved before it. Between begin and end the owner appends to buf:
//
//	w.begin()
//	w.buf = enc.AppendEvent(w.buf, ev)
//	conn.Write(w.end(false))
//
// The buffer belongs to whoever owns the chunkWriter and is used again by the
// next begin.
type chunkWriter struct {
	buf []byte
}

// begin forgets what the buffer held and reserves the size line.
func (w *chunkWriter) begin() {
	w.buf = append(w.buf[:0], "00000000\r\n"...)
}

// size is the number of payload bytes appended since begin.
func (w *chunkWriter) size() int { return len(w.buf) - chunkReserve }

// end completes the chunk and returns its bytes, valid until the next begin;
// with last the end of the body follows in the same write. Without any payload
// it returns the end alone, or nothing.
func (w *chunkWriter) end(last bool) []byte {
	n := w.size()
	if n <= 0 {
		if !last {
			return nil
		}
		w.buf = append(w.buf[:0], lastChunk...)
		return w.buf
	}
	if uint64(n) > math.MaxUint32 {
		panic("BUG: chunk payload of 4 GiB")
	}
	i := putHex(w.buf, chunkReserve-2, n)
	w.buf = append(w.buf, '\r', '\n')
	if last {
		w.buf = append(w.buf, lastChunk...)
	}
	return w.buf[i:]
}
