package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http/httputil"
	"strings"
	"testing"
)

// dechunkAll feeds wire to a dechunker in pieces of the given sizes (the last
// one repeats) and returns the payload, how much of wire was used, and the end.
func dechunkAll(wire []byte, sizes ...int) (payload []byte, used int, done bool, err error) {
	var d dechunker
	for len(wire) > used && !done && err == nil {
		n := min(sizes[0], len(wire)-used)
		if len(sizes) > 1 {
			sizes = sizes[1:]
		}
		piece := bytes.Clone(wire[used : used+n]) // decode writes into it
		var out []byte
		var k int
		out, k, done, err = d.decode(piece)
		payload = append(payload, out...)
		used += k
	}
	return payload, used, done, err
}

var chunkedBodies = []struct {
	name, wire, payload string
	extra               int // bytes after the end
}{
	{"empty", "0\r\n\r\n", "", 0},
	{"one", "5\r\nhello\r\n0\r\n\r\n", "hello", 0},
	{"several", "1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\n\r\n", "abcdef", 0},
	{"upper and lower case", "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789", 0},
	{"leading zeros", "00000005\r\nhello\r\n000\r\n\r\n", "hello", 0},
	{"extensions", "5;a=b\r\nhello\r\n2 ; q=\"x;y\"\r\n, \r\n0;last\r\n\r\n", "hello, ", 0},
	{"padding", "5  \r\nhello\r\n0\t\r\n\r\n", "hello", 0},
	{"trailers", "2\r\nhi\r\n0\r\nX-Sum: 1\r\nY: z\r\n\r\n", "hi", 0},
	{"CRLF in the payload", "8\r\n\r\n0\r\n\r\n\n\r\n0\r\n\r\n", "\r\n0\r\n\r\n\n", 0},
	{"bytes after the end", "2\r\nhi\r\n0\r\n\r\nHTTP/1.1 200", "hi", 12},
}

func TestDechunkEverySplit(t *testing.T) {
	for _, tt := range chunkedBodies {
		t.Run(tt.name, func(t *testing.T) {
			wire := []byte(tt.wire)
			check := func(sizes ...int) {
				t.Helper()
				payload, used, done, err := dechunkAll(wire, sizes...)
				if string(payload) != tt.payload || used != len(wire)-tt.extra || !done || err != nil {
					t.Errorf("split %v: got %q, used %d, done %v, error %v; want %q, %d",
						sizes, payload, used, done, err, tt.payload, len(wire)-tt.extra)
				}
			}
			check(1)
			for i := 1; i <= len(wire); i++ {
				check(i, len(wire))
				for j := 1; j <= len(wire)-i; j++ {
					check(i, j, len(wire))
				}
			}
		})
	}
}

func TestDechunkRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, wire string
		want       error
	}{
		{"no size", "\r\nhello", errChunkSize},
		{"not a digit", "g\r\n", errChunkSize},
		{"sign", "+5\r\nhello\r\n", errChunkSize},
		{"prefix", "0x5\r\nhello\r\n", errChunkSize},
		{"space before the size", " 5\r\nhello\r\n", errChunkSize},
		{"something after the padding", "5 5\r\nhello\r\n", errChunkSize},
		{"bare LF after the padding", "5 \nhello\r\n", errChunkSize},
		{"overflow", "8000000000000000\r\n", errChunkSize},
		{"overflow that wraps", "10000000000000005\r\nhello\r\n", errChunkSize},
		{"endless zeros", strings.Repeat("0", 17) + "\r\n", errChunkSize},
		{"bare LF after the size", "5\nhello\r\n", errChunkLine},
		{"bare CR after the size", "5\rhello\r\n", errChunkLine},
		{"bare LF in an extension", "5;a\nhello\r\n", errChunkLine},
		{"NUL in an extension", "5;\x00\r\nhello\r\n", errChunkLine},
		{"payload too long", "5\r\nhello!\r\n", errChunkLine},
		{"bare LF after the payload", "5\r\nhello\n0\r\n\r\n", errChunkLine},
		{"bare LF at the end", "0\r\n\n", errChunkLine},
		{"bare LF in trailers", "0\r\nA: b\n\r\n", errChunkLine},
		{"long extension", "5;" + strings.Repeat("x", maxChunkExtension) + "\r\n", errChunkExtension},
		{"long padding", "5" + strings.Repeat(" ", maxChunkExtension+1) + "\r\n", errChunkExtension},
		{"long trailers", "0\r\n" + strings.Repeat("A: b\r\n", maxTrailer/3) + "\r\n", errChunkTrailer},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{1, 3, len(tt.wire)} {
				if _, _, done, err := dechunkAll([]byte(tt.wire), size); !errors.Is(err, tt.want) || done {
					t.Errorf("in pieces of %d: done %v, error %v; want %v", size, done, err, tt.want)
				}
			}
		})
	}
	var d dechunker
	if _, _, _, err := d.decode([]byte("7fffffffffffffff\r\n")); err != nil {
		t.Errorf("the largest size: %v", err)
	}
}

func TestDechunkPayloadBeforeAFaultIsDelivered(t *testing.T) {
	var d dechunker
	out, _, done, err := d.decode([]byte("2\r\nab\r\n2\r\ncd\r\nzz"))
	if string(out) != "abcd" || done || !errors.Is(err, errChunkSize) {
		t.Errorf("got %q, %v, %v", out, done, err)
	}
}

func FuzzDechunk(f *testing.F) {
	for _, tt := range chunkedBodies {
		f.Add([]byte(tt.wire), uint8(1), uint8(7))
	}
	f.Add([]byte("5\nhello\n0\n\n"), uint8(2), uint8(2))
	f.Add([]byte("fffffffffffffffff\r\n"), uint8(2), uint8(2))
	f.Fuzz(func(t *testing.T, wire []byte, a, b uint8) {
		payload, used, done, err := dechunkAll(wire, max(1, len(wire)))
		for _, sizes := range [][]int{{1}, {int(a) + 1, int(b) + 1}, {int(b) + 1, int(a) + 1, 3, 1}} {
			p2, used2, done2, err2 := dechunkAll(wire, sizes...)
			if !bytes.Equal(payload, p2) || used != used2 || done != done2 || !errors.Is(err2, err) {
				t.Fatalf("split %v: %q %d %v %v; whole: %q %d %v %v", sizes, p2, used2, done2, err2, payload, used, done, err)
			}
		}
		if !done {
			return
		}
		// What we take for a whole body, the standard library does not take for
		// another one.
		ref, rerr := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(wire[:used])))
		if rerr == nil && !bytes.Equal(ref, payload) {
			t.Fatalf("reference %q, ours %q", ref, payload)
		}
		// It refuses two things that the grammar allows: much framing for little
		// payload, and padding before an extension.
		padded := bytes.Contains(wire, []byte(" ;")) || bytes.Contains(wire, []byte("\t;"))
		if rerr != nil && !padded && !strings.Contains(rerr.Error(), "non-data") && !strings.Contains(rerr.Error(), "too long") {
			t.Fatalf("reference refuses: %v", rerr)
		}
	})
}

// FuzzChunkRoundTrip: what our writers make, our dechunker and the standard
// library's read back.
func FuzzChunkRoundTrip(f *testing.F) {
	f.Add([]byte("hello, world"), uint8(5))
	f.Fuzz(func(t *testing.T, body []byte, n uint8) {
		step := int(n) + 1
		var wire []byte
		var w chunkWriter
		for i := 0; i < len(body); i += step {
			p := body[i:min(len(body), i+step)]
			if i/step%2 == 0 {
				wire = appendChunk(wire, p)
				continue
			}
			w.begin()
			w.buf = append(w.buf, p...)
			wire = append(wire, w.end(false)...)
		}
		w.begin()
		wire = append(wire, w.end(true)...)
		payload, used, done, err := dechunkAll(wire, step)
		if !bytes.Equal(payload, body) || used != len(wire) || !done || err != nil {
			t.Fatalf("ours: %q, %d of %d, %v, %v", payload, used, len(wire), done, err)
		}
		ref, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(wire)))
		if err != nil || !bytes.Equal(ref, body) {
			t.Fatalf("reference: %q, %v", ref, err)
		}
	})
}

func TestChunkWriter(t *testing.T) {
	for _, tt := range []struct {
		name    string
		payload string
		last    bool
		want    string
	}{
		{"nothing", "", false, ""},
		{"only the end", "", true, "0\r\n\r\n"},
		{"one byte", "x", false, "1\r\nx\r\n"},
		{"sixteen", "0123456789abcdef", false, "10\r\n0123456789abcdef\r\n"},
		{"with the end", "hi", true, "2\r\nhi\r\n0\r\n\r\n"},
		{"long", strings.Repeat("y", 0x12345), false, "12345\r\n" + strings.Repeat("y", 0x12345) + "\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var w chunkWriter
			for range 2 { // the buffer is used again
				w.begin()
				w.buf = append(w.buf, tt.payload...)
				if w.size() != len(tt.payload) {
					t.Errorf("size %d", w.size())
				}
				if got := string(w.end(tt.last)); got != tt.want {
					t.Errorf("got %.40q, want %.40q", got, tt.want)
				}
			}
			if !tt.last {
				if got := string(appendChunk(nil, []byte(tt.payload))); got != tt.want {
					t.Errorf("appendChunk: got %.40q, want %.40q", got, tt.want)
				}
			}
		})
	}
}

func BenchmarkDechunk(b *testing.B) {
	event := []byte(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"word "}}]}` + "\n\n")
	var wire []byte
	for range 64 {
		wire = appendChunk(wire, event)
	}
	wire = append(wire, lastChunk...)
	p := make([]byte, len(wire))
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	for b.Loop() {
		copy(p, wire)
		var d dechunker
		if _, _, done, err := d.decode(p); !done || err != nil {
			b.Fatal(done, err)
		}
	}
}
