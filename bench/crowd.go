package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// order is what a client asks of the crowd's backend. It stands in the text of the
// request, which reaches the backend through any translation.
type order struct {
	events int           // of a stream
	every  time.Duration // between two of them
	first  time.Duration // before the first, or before a JSON answer
	pad    int           // bytes of text that each event says besides its mark
	cut    int           // the connection is cut behind this event; 0: never
}

const orderMark = "Crowd "

func (o order) String() string {
	return fmt.Sprintf("%s%d %d %d %d %d.", orderMark, o.events, o.every.Milliseconds(), o.first.Milliseconds(), o.pad, o.cut)
}

// readOrder finds the order in a request's body.
func readOrder(body []byte) (o order, err error) {
	i := bytes.LastIndex(body, []byte(orderMark))
	if i < 0 {
		return o, errors.New("a request without an order")
	}
	text, _, _ := bytes.Cut(body[i+len(orderMark):], []byte("."))
	var every, first int64
	_, err = fmt.Sscan(string(text), &o.events, &every, &first, &o.pad, &o.cut)
	o.every, o.first = time.Duration(every)*time.Millisecond, time.Duration(first)*time.Millisecond
	return o, err
}

// monotonic is a clock that all processes of the machine share, in nanoseconds.
func monotonic() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err)
	}
	return t.Nano()
}

// A mark is what an event says: its number in the stream, and when it was written.
func appendMark(b []byte, n int) []byte {
	b = append(b, '@')
	b = strconv.AppendInt(b, int64(n), 10)
	b = append(b, ':')
	b = strconv.AppendInt(b, monotonic(), 10)
	return append(b, '@', ' ')
}

// nextMark takes the first mark off a text; ok is false if there is none.
func nextMark(b []byte) (n int, at int64, rest []byte, ok bool) {
	i := bytes.IndexByte(b, '@')
	if i < 0 {
		return 0, 0, nil, false
	}
	j := bytes.IndexByte(b[i+1:], '@')
	if j < 0 {
		return 0, 0, nil, false
	}
	number, stamp, _ := strings.Cut(string(b[i+1:i+1+j]), ":")
	n, err := strconv.Atoi(number)
	at, err2 := strconv.ParseInt(stamp, 10, 64)
	return n, at, b[i+j+2:], err == nil && err2 == nil
}

// dialect is how the crowd's backend says things.
type dialect struct {
	opening   string
	pre, post string // around the text of an event
	ending    string
	json      string
}

const plainEnd = "data: [DONE]\n\n"

var dialects = map[string]dialect{
	"chat": {
		opening: `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1789000000,"model":"crowd","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}` + "\n\n",
		pre:     `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1789000000,"model":"crowd","choices":[{"index":0,"delta":{"content":"`,
		post:    `"},"finish_reason":null}]}` + "\n\n",
		ending:  `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1789000000,"model":"crowd","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n" + plainEnd,
		json:    `{"id":"chatcmpl-1","object":"chat.completion","created":1789000000,"model":"crowd","choices":[{"index":0,"message":{"role":"assistant","content":"crowded"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`,
	},
	"cycls": {
		pre: `data: {"type": "text", "text": "`, post: `"}` + "\n\n",
		ending: plainEnd,
		json:   `{"role":"assistant","parts":[{"type":"text","text":"crowded"}]}`,
	},
	"responses": {
		opening: responsesFrame("response.created", `"response":`+responsesObject("in_progress", "")) +
			responsesFrame("response.output_item.added", `"output_index":0,"item":{"id":"msg_1","type":"message","status":"in_progress","role":"assistant","content":[]}`) +
			responsesFrame("response.content_part.added", `"item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[]}`),
		pre:  "event: response.output_text.delta\n" + `data: {"type":"response.output_text.delta","sequence_number":9,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"`,
		post: `","logprobs":[]}` + "\n\n",
		// The terminal events of a real server repeat the text. Ours do not: a decoder reads
		// it there only where no event has said it.
		ending: responsesFrame("response.output_item.done", `"output_index":0,"item":{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[]}`) +
			responsesFrame("response.completed", `"response":`+responsesObject("completed", "")),
		json: responsesObject("completed", `{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"crowded","annotations":[]}]}`),
	},
}

func responsesFrame(name, fields string) string {
	return "event: " + name + "\ndata: {\"type\":\"" + name + "\",\"sequence_number\":1," + fields + "}\n\n"
}

func responsesObject(status, output string) string {
	return `{"id":"resp_1","object":"response","created_at":1789000000,"status":"` + status + `","error":null,"model":"crowd","output":[` + output + `],"usage":null}`
}

const (
	crowdStream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
	crowdJSON   = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
)

// runCrowd is the backend of capacity and soak: it speaks one protocol, on any path, and
// does what the order in a request says.
func runCrowd(protocol string) error {
	d, ok := dialects[protocol]
	if !ok {
		return fmt.Errorf("the crowd's backend does not speak %q", protocol)
	}
	if err := moreFiles(); err != nil {
		return err
	}
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
		go serveCrowd(c, &d)
	}
}

func serveCrowd(c net.Conn, d *dialect) {
	defer c.Close()
	buf := make([]byte, 0, 2<<10)
	for {
		body, rest, err := readRequest(c, &buf)
		if err != nil {
			return
		}
		o, err := readOrder(body)
		if err != nil {
			_, _ = fmt.Fprintf(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
			return
		}
		start := time.Now().Add(o.first)
		if o.events == 0 {
			time.Sleep(o.first)
			_, err = fmt.Fprintf(c, crowdJSON, len(d.json), d.json)
		} else {
			err = d.stream(c, o, start)
		}
		if err != nil {
			return
		}
		buf = buf[:copy(buf, rest)]
	}
}

var errCut = errors.New("cut as ordered")

// stream sends the events by a clock that starts with the request. The opening goes out
// with the first of them, as from an agent that thinks first.
func (d *dialect) stream(c net.Conn, o order, start time.Time) error {
	var b, event []byte
	pad := strings.Repeat("x", o.pad)
	for i := range o.events {
		time.Sleep(time.Until(start.Add(time.Duration(i) * o.every)))
		b = b[:0]
		if i == 0 {
			b = append(b, crowdStream...)
			b = appendPiece(b, d.opening)
		}
		event = appendMark(append(append(event[:0], d.pre...), pad...), i)
		event = append(event, d.post...)
		b = fmt.Appendf(b, "%x\r\n%s\r\n", len(event), event)
		if _, err := c.Write(b); err != nil {
			return err
		}
		if o.cut > 0 && i+1 == o.cut {
			return errCut
		}
	}
	b = appendPiece(b[:0], d.ending)
	_, err := c.Write(append(b, "0\r\n\r\n"...))
	return err
}

func appendPiece(b []byte, s string) []byte {
	if s == "" {
		return b
	}
	return fmt.Appendf(b, "%x\r\n%s\r\n", len(s), s)
}

// crowdFace is how a client asks, and how it knows what it gets.
type crowdFace struct {
	path  string
	body  string // with %s for the agent, %q for the text, %t for stream
	delta string // what the line of an event with text holds
	last  string // the line that ends a whole answer
	wrong string // a line of a failure begins so
	said  string // what a JSON answer holds
}

var crowdFaces = map[string]crowdFace{
	"chat": {
		path: "/v1/chat/completions", body: `{"model":"%s","messages":[{"role":"system","content":"` + system + `"},{"role":"user","content":%q}],"stream":%t}`,
		delta: `"content":"`, last: "data: [DONE]", wrong: `data: {"error"`, said: `"content":"crowded"`,
	},
	"responses": responsesFace(`,"store":false`),
	"kept":      responsesFace(""), // as the API has it by default
}

func responsesFace(store string) crowdFace {
	return crowdFace{
		path: "/v1/responses", body: `{"model":"%s","instructions":"` + system + `","input":%q` + store + `,"stream":%t}`,
		delta: `"type":"response.output_text.delta"`, last: "event: response.completed", wrong: "event: response.failed", said: `"text":"crowded"`,
	}
}

func (f *crowdFace) request(agent string, o order) []byte {
	return post(f.path, o.events > 0, fmt.Appendf(nil, f.body, agent, o.String(), o.events > 0))
}

// readAnswerHead reads the head of an answer, which must be a success.
func readAnswerHead(r *lineReader) (chunked bool, length int, err error) {
	line, err := r.line()
	if err != nil {
		return false, 0, err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
		return false, 0, fmt.Errorf("%w: %.200q", errAnswer, line)
	}
	for {
		if line, err = r.line(); err != nil {
			return false, 0, err
		}
		if len(line) == 0 {
			return chunked, length, nil
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = string(value) == "chunked"
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return false, 0, err
			}
		}
	}
}

// lineReader reads lines from a connection with a small buffer, which grows with the
// longest line. Once chunked it takes the chunks off, which may be anywhere in a line.
type lineReader struct {
	r       io.Reader
	buf     []byte // raw[lo:hi] has not been looked at
	lo, hi  int
	out     []byte // the line at hand
	chunked bool
	fixed   bool // the chunk at hand is all there is: a body of known length
	left    int  // of the chunk at hand
	ended   bool
}

func newLineReader(r io.Reader) *lineReader { return &lineReader{r: r, buf: make([]byte, 2<<10)} }

func (r *lineReader) fill() error {
	if r.lo < r.hi {
		return nil
	}
	n, err := r.r.Read(r.buf)
	r.lo, r.hi = 0, n
	if n > 0 {
		return nil
	}
	return err
}

// plain is a line of the connection itself, without its end.
func (r *lineReader) plain(dst []byte, limit int) ([]byte, bool, error) {
	for limit > 0 {
		if err := r.fill(); err != nil {
			return dst, false, err
		}
		b := r.buf[r.lo:min(r.hi, r.lo+limit)]
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			r.lo += i + 1
			return append(dst, b[:i]...), true, nil
		}
		dst = append(dst, b...)
		r.lo += len(b)
		limit -= len(b)
	}
	return dst, false, nil
}

// line returns the next line, without its end, valid until the next call.
func (r *lineReader) line() ([]byte, error) {
	r.out = r.out[:0]
	if !r.chunked {
		out, _, err := r.plain(r.out, math.MaxInt32)
		r.out = out
		return bytes.TrimSuffix(out, []byte("\r")), err
	}
	for {
		if r.ended {
			return nil, io.EOF
		}
		if r.left == 0 && r.fixed {
			r.ended = true
			continue
		}
		if r.left == 0 {
			var size [64]byte
			line, _, err := r.plain(size[:0], math.MaxInt32)
			if err != nil {
				return nil, unexpected(err)
			}
			n, err := strconv.ParseUint(string(bytes.TrimSuffix(line, []byte("\r"))), 16, 31)
			if err != nil {
				return nil, fmt.Errorf("%w: chunk size %q", errAnswer, line)
			}
			if n == 0 {
				r.ended = true
				if _, _, err := r.plain(size[:0], math.MaxInt32); err != nil {
					return nil, unexpected(err)
				}
				continue
			}
			r.left = int(n)
		}
		before := len(r.out)
		out, whole, err := r.plain(r.out, r.left)
		r.out = out
		if r.left -= len(out) - before; whole {
			r.left--
		}
		if err != nil {
			return nil, unexpected(err)
		}
		if r.left == 0 && !r.fixed {
			var end [8]byte
			if _, _, err := r.plain(end[:0], math.MaxInt32); err != nil {
				return nil, unexpected(err)
			}
		}
		if whole {
			return bytes.TrimSuffix(r.out, []byte("\r")), nil
		}
	}
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// follow reads a stream to its end and calls seen for each event, in their order, with
// the time at which the backend wrote it. It is an error if one is missing, comes twice
// or late, or if the answer does not end as its protocol has it.
func (f *crowdFace) follow(r *lineReader, events int, seen func(n int, at int64)) error {
	chunked, length, err := readAnswerHead(r)
	if err != nil {
		return err
	}
	// A short stream that came at once has a length.
	r.chunked, r.fixed, r.left, r.ended = true, !chunked, length, false
	defer func() { r.chunked = false }()
	next, ended := 0, false
	for {
		line, err := r.line()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("behind event %d of %d: %w", next, events, err)
		}
		switch {
		case string(line) == f.last:
			ended = true
		case bytes.HasPrefix(line, []byte(f.wrong)):
			return fmt.Errorf("%w behind event %d of %d: %.300q", errAnswer, next, events, line)
		case bytes.HasPrefix(line, []byte("data: ")) && bytes.Contains(line, []byte(f.delta)):
			for rest := line; ; {
				n, at, behind, ok := nextMark(rest)
				if !ok {
					break
				}
				if n != next {
					return fmt.Errorf("%w: event %d where %d was due", errAnswer, n, next)
				}
				next++
				seen(n, at)
				rest = behind
			}
		}
	}
	if next != events || !ended {
		return fmt.Errorf("%w: %d of %d events, ended: %t", errAnswer, next, events, ended)
	}
	return nil
}
