package sse

import (
	"bytes"
	"errors"
	"slices"
)

const (
	// DefaultMax is the size of a frame that Reader accepts by default.
	DefaultMax = 16 << 20

	// keepBuffer is the size up to which Reset keeps a buffer.
	keepBuffer = 64 << 10
)

// ErrTooLong says that a frame is larger than Reader.Max.
var ErrTooLong = errors.New("server-sent event too long")

// Frame is one event as it stood on the wire: the lines up to a blank line. Its
// slices borrow from the chunk or from the Reader's buffers and are valid until
// the next call of Next, Feed, Flush or Reset.
type Frame struct {
	// Event is the value of the last event line; nil if there was none.
	Event []byte
	// Data is the values of the data lines, joined by line feeds: nil if there
	// was no data line, empty but not nil if all there was is an empty one.
	Data []byte
	// Raw is every byte of the frame, its blank line included, as received. A
	// comment, or a blank line by itself, is a frame of which only Raw is set.
	Raw []byte
	// ID is the value of the last id line; nil if there was none.
	ID []byte
}

// span is a part of the current frame.
type span struct{ from, to int }

// Reader takes a stream apart into frames. The zero value is ready. It is not
// safe for concurrent use.
//
//	r.Feed(chunk)
//	for {
//		f, ok := r.Next()
//		if !ok {
//			break
//		}
//		…
//	}
//
// The Raw bytes of all frames and the Pending ones are exactly what was fed.
// When a chunk ends between the carriage return and the line feed that end a
// frame, the frame comes out at once and the line feed is the first byte of
// the next frame's Raw.
type Reader struct {
	// Max is the size of the largest frame accepted, in bytes; 0 means
	// DefaultMax.
	Max int

	p     []byte // the chunk
	off   int    // p[:off] has been handed out or lies in carry
	lf    int    // no line feed in p[off:lf], and one at lf unless that is len(p)
	carry []byte // bytes of the current frame before p[off:]
	spent bool   // carry and join belong to a frame that was handed out
	err   error

	started bool // the stream's first line is over; no byte order mark can come
	cr      bool // the last line ended in a carriage return: a line feed next is part of it

	// State of the current frame, so that no byte is looked at twice. Positions
	// count from the frame's first byte and hold wherever the frame lies.
	lead  int    // 1 if the frame starts with a line feed that belongs to the frame before
	line  int    // where the line being read starts
	event span   // empty with to 0 if there is none: no value starts at 0
	id    span   // the same
	data  span   // the first data line
	lines int    // count of data lines
	join  []byte // the data lines joined, from the second on
}

// Feed hands r the next chunk. Next must have returned false for the one
// before. p must stay unchanged until Next returns false.
func (r *Reader) Feed(p []byte) {
	if r.spent {
		r.forget()
	}
	r.p, r.off, r.lf = p, 0, -1
}

// forget drops the frame that was handed out.
func (r *Reader) forget() {
	r.carry = r.carry[:0]
	r.spent = false
}

// restart makes the state that of a new frame.
func (r *Reader) restart() {
	r.lead, r.line, r.lines = 0, 0, 0
	r.event, r.id, r.data = span{}, span{}, span{}
}

func (r *Reader) max() int {
	if r.Max > 0 {
		return r.Max
	}
	return DefaultMax
}

func (r *Reader) tooLong() (Frame, bool) {
	r.err = ErrTooLong
	r.carry, r.join, r.p, r.off = nil, nil, nil, 0
	return Frame{}, false
}

// nextLF returns the index in r.p of the first line feed at or after i. What it
// finds is kept: a chunk with carriage returns only must not be searched for a
// line feed once a line.
func (r *Reader) nextLF(i int) int {
	if r.lf < i {
		r.lf = len(r.p)
		if n := bytes.IndexByte(r.p[i:], '\n'); n >= 0 {
			r.lf = i + n
		}
	}
	return r.lf
}

// Next returns the next complete frame. False means that it needs another
// chunk, the unfinished rest of this one having been copied aside, or that
// there is an error.
func (r *Reader) Next() (Frame, bool) {
	if r.spent {
		r.forget()
	}
	if r.err != nil || r.off >= len(r.p) {
		r.p, r.off, r.lf = nil, 0, -1
		return Frame{}, false
	}
	p := r.p
	pos := r.off // p[:pos] has been searched

	// Nearly all frames are one data line and a line feed.
	if len(r.carry) == 0 && !r.cr {
		w := p[pos:]
		if len(w) > 6 && string(w[:5]) == "data:" {
			n := r.nextLF(pos) - pos
			if n+1 < len(w) && w[n+1] == '\n' && bytes.IndexByte(w[:n], '\r') < 0 && n+2 <= r.max() {
				r.started = true
				r.off = pos + n + 2
				from := 5
				if w[5] == ' ' {
					from = 6
				}
				return Frame{Data: w[from:n:n], Raw: w[: n+2 : n+2]}, true
			}
		}
	}

	for {
		if r.cr && pos < len(p) {
			r.cr = false
			if p[pos] == '\n' {
				pos++
				r.line++
				if r.line == 1 {
					r.lead = 1
				}
			}
		}
		// The line ends at its first carriage return or line feed.
		end := r.nextLF(pos)
		if n := bytes.IndexByte(p[pos:end], '\r'); n >= 0 {
			end = pos + n
		}
		// The frame's bytes are carry and then p[off:].
		if len(r.carry)+min(end+1, len(p))-r.off-r.lead > r.max() {
			return r.tooLong()
		}
		if end >= len(p) {
			r.carry = append(r.carry, p[r.off:]...)
			r.p, r.off, r.lf = nil, 0, -1
			return Frame{}, false
		}
		pos = end + 1
		frame := p[r.off:pos]
		if len(r.carry) > 0 {
			r.carry = append(r.carry, frame...)
			r.off = pos
			frame = r.carry
		}
		blank := r.field(frame, len(frame)-1)
		r.line = len(frame)
		r.cr = p[end] == '\r'
		if !blank {
			continue
		}

		if r.cr && pos < len(p) {
			r.cr = false
			if p[pos] == '\n' {
				pos++
				if len(r.carry) > 0 {
					r.carry = append(r.carry, '\n')
					frame = r.carry
				} else {
					frame = p[r.off:pos]
				}
			}
		}
		r.off = pos
		r.spent = len(r.carry) > 0
		return r.frame(frame), true
	}
}

// field parses the line frame[r.line:end] and tells whether it is blank.
func (r *Reader) field(frame []byte, end int) (blank bool) {
	line := frame[r.line:end]
	from := r.line
	if !r.started {
		r.started = true
		if bytes.HasPrefix(line, bom) {
			line = line[len(bom):]
			from += len(bom)
		}
	}
	if len(line) == 0 {
		return true
	}
	// A line without a colon is a field without a value.
	name := 0
	switch line[0] {
	case 'd':
		name = fieldName(line, "data")
	case 'e':
		name = fieldName(line, "event")
	case 'i':
		name = fieldName(line, "id")
	}
	if name == 0 {
		return false
	}
	value := span{from + name, end}
	switch line[0] {
	case 'd':
		r.lines++
		switch r.lines {
		case 1:
			r.data = value
			return false
		case 2:
			r.join = append(r.join[:0], frame[r.data.from:r.data.to]...)
		}
		r.join = append(r.join, '\n')
		r.join = append(r.join, frame[value.from:value.to]...)
	case 'e':
		r.event = value
	case 'i':
		// The standard ignores identifiers with a NUL.
		if bytes.IndexByte(frame[value.from:value.to], 0) < 0 {
			r.id = value
		}
	}
	return false
}

var bom = []byte("\xef\xbb\xbf")

// fieldName returns where the value starts if line is a field of that name, 0
// if it is not.
func fieldName(line []byte, name string) int {
	n := len(name)
	if len(line) < n || string(line[:n]) != name {
		return 0
	}
	if len(line) == n {
		return n
	}
	if line[n] != ':' {
		return 0
	}
	n++
	if n < len(line) && line[n] == ' ' {
		n++
	}
	return n
}

// frame makes the Frame whose bytes are b and starts a new one.
func (r *Reader) frame(b []byte) Frame {
	f := Frame{Raw: slices.Clip(b)}
	if s := r.event; s.to > 0 {
		f.Event = b[s.from:s.to:s.to]
	}
	if s := r.id; s.to > 0 {
		f.ID = b[s.from:s.to:s.to]
	}
	switch {
	case r.lines == 1:
		f.Data = b[r.data.from:r.data.to:r.data.to]
	case r.lines > 1:
		f.Data = slices.Clip(r.join)
	}
	r.restart()
	return f
}

// Flush returns, at the end of the stream and after Next has returned false,
// the last frame if its blank line, or even the end of its last line, is
// missing and it has a data line.
func (r *Reader) Flush() (Frame, bool) {
	if r.spent {
		r.forget()
	}
	if r.err != nil || len(r.carry) == 0 {
		return Frame{}, false
	}
	if r.line < len(r.carry) {
		r.field(r.carry, len(r.carry))
		r.line = len(r.carry)
	}
	if r.lines == 0 {
		return Frame{}, false
	}
	r.spent = true
	return r.frame(r.carry), true
}

// Pending returns how many bytes of an unfinished frame r holds.
func (r *Reader) Pending() int {
	if r.spent {
		return 0
	}
	return len(r.carry)
}

// Err returns ErrTooLong once a frame exceeded Max; nothing more comes out then.
func (r *Reader) Err() error { return r.err }

// Reset makes r ready for another stream. It keeps Max, and the buffers unless
// they have become large.
func (r *Reader) Reset() {
	carry, join := r.carry[:0], r.join[:0]
	if cap(carry) > keepBuffer {
		carry = nil
	}
	if cap(join) > keepBuffer {
		join = nil
	}
	*r = Reader{Max: r.Max, carry: carry, join: join}
}
