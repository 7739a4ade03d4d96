package sse

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// event is a Frame that owns its memory, with nil told from empty.
type event struct{ Event, Data, ID string }

const none = "<none>"

func own(b []byte) string {
	if b == nil {
		return none
	}
	return string(b)
}

// read feeds the chunks one after the other and returns the frames, all Raw
// bytes and how many are pending after the last. With flush it asks for the
// last frame.
func read(t testing.TB, r *Reader, flush bool, chunks ...[]byte) (events []event, raw []byte, pending int) {
	t.Helper()
	take := func(f Frame) {
		if cap(f.Raw) != len(f.Raw) || cap(f.Data) != len(f.Data) || cap(f.Event) != len(f.Event) || cap(f.ID) != len(f.ID) {
			t.Fatalf("a slice of the frame has room behind it: %d/%d %d/%d %d/%d %d/%d", len(f.Raw), cap(f.Raw),
				len(f.Data), cap(f.Data), len(f.Event), cap(f.Event), len(f.ID), cap(f.ID))
		}
		events = append(events, event{own(f.Event), own(f.Data), own(f.ID)})
		raw = append(raw, f.Raw...)
	}
	for _, c := range chunks {
		c = bytes.Clone(c)
		r.Feed(c)
		for {
			f, ok := r.Next()
			if !ok {
				break
			}
			take(f)
		}
		for i := range c { // r must not look at it any more
			c[i] = '!'
		}
	}
	if flush {
		if f, ok := r.Flush(); ok {
			take(f)
		}
	}
	return events, raw, r.Pending()
}

// splits calls f with in cut in two at every offset, byte by byte, and whole.
func splits(in []byte, f func(how string, chunks ...[]byte)) {
	f("whole", in)
	for i := 1; i < len(in); i++ {
		f(fmt.Sprintf("split at %d", i), in[:i], in[i:])
	}
	f("byte by byte", slices.Collect(slices.Chunk(in, 1))...)
	f("two bytes", slices.Collect(slices.Chunk(in, 2))...)
	f("three bytes", slices.Collect(slices.Chunk(in, 3))...)
}

func TestEveryCutGivesTheSameFrames(t *testing.T) {
	t.Parallel()
	f := func(in string, want ...event) {
		t.Helper()
		splits([]byte(in), func(how string, chunks ...[]byte) {
			var r Reader
			got, raw, pending := read(t, &r, true, chunks...)
			if !slices.Equal(got, want) {
				t.Errorf("%q %s: got %q, want %q", in, how, got, want)
			}
			if n := len(in) - pending; string(raw) != in[:max(n, 0)] {
				t.Errorf("%q %s: raw bytes %q and %d pending", in, how, raw, pending)
			}
		})
	}
	data := func(s string) event { return event{none, s, none} }
	empty := event{none, none, none}

	f("")
	// What agents send.
	f("data: {\"a\":1}\n\ndata: [DONE]\n\n", data(`{"a":1}`), data("[DONE]"))
	f("event: message_start\ndata: {}\n\n", event{"message_start", "{}", none})
	f("data: {}\nevent: late\n\n", event{"late", "{}", none})
	f("id: 7\nevent: e\ndata: {}\n\n", event{"e", "{}", "7"})
	f(": ping\n\n", empty)
	f(": ping\ndata: x\n\n", data("x"))

	// Line ends, alone and mixed.
	f("data: x\r\n\r\ndata: y\r\n\r\n", data("x"), data("y"))
	f("data: x\r\rdata: y\r\r", data("x"), data("y"))
	f("data: x\r\n\rdata: y\n\r\ndata: z\r\n\n", data("x"), data("y"), data("z"))
	f("data: x\rdata: y\ndata: z\r\ndata:\n\r", data("x\ny\nz\n"))
	f("data: x\n\r\n\ndata: y\n\n", data("x"), empty, data("y"))
	f("\r\n\r\n", empty, empty)
	f("\n\r", empty, empty)
	f("\r\r\n\n", empty, empty, empty)
	f("data: a\rb\r\r", data("a"))

	// The standard's examples.
	f("data: YHOO\ndata: +2\ndata: 10\n\n", data("YHOO\n+2\n10"))
	f(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
		empty, event{none, "first event", "1"}, event{none, "second event", ""}, data(" third event"))
	f("data\n\ndata\ndata\n\ndata:", data(""), data("\n"), data(""))
	f("data:test\n\ndata: test\n\n", data("test"), data("test"))

	// Fields.
	f("data:\n\n", data(""))
	f("data: \n\n", data(""))
	f("data:  \n\n", data(" "))
	f("data::x\n\n", data(":x"))
	f("data : x\n\nDATA: x\n\ndatax: y\n\n data: x\n\n", empty, empty, empty, empty)
	f("event\ndata\n\n", event{"", "", none})
	f("event: a\nevent: b\ndata\n\n", event{"b", "", none})
	f("retry: 10\nfoo: bar\nfoo\n:\n\n", empty)
	f("id: a\nid: b\x00\n\n", event{none, none, "a"})
	f("id:\n\n", event{none, none, ""})
	f("d\ne\ni\n\n", empty)

	// A byte order mark counts at the start of the stream only.
	f("\xef\xbb\xbfdata: x\n\n", data("x"))
	f("\xef\xbb\xbf\ndata: x\n\n", empty, data("x"))
	f("\xef\xbb\xbf\xef\xbb\xbfdata: x\n\n", empty)
	f("data: x\n\n\xef\xbb\xbfdata: y\n\n", data("x"), empty)
	f("\xef\xbbdata: x\n\n", empty)

	// The end of the stream.
	f("data: x", data("x"))
	f("data: x\n", data("x"))
	f("data: x\r", data("x"))
	f("data: x\ndata: y", data("x\ny"))
	f("data: x\n\ndata: y\nevent: e", data("x"), event{"e", "y", none})
	f("\xef\xbb\xbfdata: x", data("x"))
	f("event: e\n")
	f("event: e")
	f(": ping")
	f("data: x\n\ndat", data("x"))
}

func TestFrameOutOfOneChunkIsNotCopied(t *testing.T) {
	t.Parallel()
	in := []byte("event: e\nid: 1\ndata: x\n\ndata: y\r\n\r\ndata: z\n\n")
	var r Reader
	r.Feed(in)
	for n := 0; ; {
		f, ok := r.Next()
		if !ok {
			if n != len(in) {
				t.Fatalf("%d bytes came out, want %d", n, len(in))
			}
			return
		}
		if &f.Raw[0] != &in[n] {
			t.Fatalf("frame at %d was copied", n)
		}
		n += len(f.Raw)
	}
}

func TestCarriageReturnEndsFrameAtOnce(t *testing.T) {
	t.Parallel()
	var r Reader
	got, raw, pending := read(t, &r, false, []byte("data: x\r\n\r"))
	if len(got) != 1 || string(raw) != "data: x\r\n\r" || pending != 0 {
		t.Fatalf("got %q, raw %q, pending %d", got, raw, pending)
	}
	got, raw, pending = read(t, &r, false, []byte("\n"))
	if len(got) != 0 || len(raw) != 0 || pending != 1 {
		t.Fatalf("line feed: got %q, raw %q, pending %d", got, raw, pending)
	}
	got, raw, pending = read(t, &r, false, []byte("data: y\r\n\r\n"))
	if len(got) != 1 || got[0].Data != "y" || string(raw) != "\ndata: y\r\n\r\n" || pending != 0 {
		t.Fatalf("next: got %q, raw %q, pending %d", got, raw, pending)
	}
}

func TestFrameLargerThanMaxIsAnError(t *testing.T) {
	t.Parallel()
	f := func(in string, limit, wantFrames int, wantErr error) {
		t.Helper()
		splits([]byte(in), func(how string, chunks ...[]byte) {
			r := Reader{Max: limit}
			got, _, _ := read(t, &r, true, chunks...)
			if len(got) != wantFrames || r.Err() != wantErr {
				t.Errorf("%q %s: got %q, %v", in, how, got, r.Err())
			}
			if r.Err() == nil {
				return
			}
			if r.Pending() != 0 {
				t.Errorf("%q %s: still holds %d bytes", in, how, r.Pending())
			}
			r.Reset()
			if got, _, _ := read(t, &r, true, []byte("data\n\n")); len(got) != 1 || r.Err() != nil || r.Max != limit {
				t.Errorf("%q %s: after Reset got %q, %v", in, how, got, r.Err())
			}
		})
	}
	f("data: 345\n\n", 11, 1, nil)
	f("data: 345\n\n", 10, 0, ErrTooLong)
	f("data: 345\r\n\r\n", 12, 1, nil)
	f("data: 345\r\n\r\n", 11, 0, ErrTooLong)
	f("data: 345\r\n\r\ndata: 345\r\n\r\n", 12, 2, nil)
	f("data: 3\n\ndata: 345\n\ndata: x\n\n", 10, 1, ErrTooLong)
	f("data: 34567", 11, 1, nil)
	f("data: 345678", 11, 0, ErrTooLong)
	f("data\ndata\ndata\ndata\n\n", 16, 0, ErrTooLong)
	f(strings.Repeat("data\n\n", 9), 6, 9, nil)
}

func TestResetKeepsSmallBuffersOnly(t *testing.T) {
	t.Parallel()
	var r Reader
	read(t, &r, false, []byte("data: x\ndata: y"))
	r.Reset()
	if cap(r.carry) == 0 || r.Pending() != 0 {
		t.Fatalf("small buffer: cap %d, pending %d", cap(r.carry), r.Pending())
	}
	line := "data: " + strings.Repeat("x", keepBuffer) + "\n"
	read(t, &r, false, []byte(line+line+"data: "))
	r.Reset()
	if cap(r.carry) != 0 || cap(r.join) != 0 {
		t.Fatalf("large buffers: cap %d and %d", cap(r.carry), cap(r.join))
	}
}

func TestReadingDoesNotAllocate(t *testing.T) {
	frames := []byte("data: {\"id\":1}\n\n: ping\n\nevent: e\nid: 5\ndata: a\ndata: b\ndata: c\r\n\r\n")
	var r Reader
	f := func(name string, size int) {
		t.Helper()
		n := testing.AllocsPerRun(100, func() {
			for c := range slices.Chunk(frames, size) {
				r.Feed(c)
				for {
					if _, ok := r.Next(); !ok {
						break
					}
				}
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	f("whole", len(frames))
	f("cut", 5)
	f("byte by byte", 1)
}

// TestTimeIsLinearInFrameSize would take very long if any byte were looked at
// once a chunk or once a line.
func TestTimeIsLinearInFrameSize(t *testing.T) {
	t.Parallel()
	const size = 4 << 20
	long := append(append([]byte("data: "), bytes.Repeat([]byte("x"), size-6)...), "\n\n"...)
	f := func(name string, in []byte, chunk, wantFrames int) {
		t.Helper()
		var r Reader
		frames := 0
		for c := range slices.Chunk(in, chunk) {
			r.Feed(c)
			for {
				if _, ok := r.Next(); !ok {
					break
				}
				frames++
			}
		}
		if frames != wantFrames || r.Err() != nil {
			t.Errorf("%s: %d frames, %v", name, frames, r.Err())
		}
	}
	f("one line, 1", long, 1, 1)
	f("one line, 16384", long, 16384, 1)
	f("data lines", append(bytes.Repeat([]byte("data\n"), size/5), '\n'), 16384, 1)
	f("carriage returns", bytes.Repeat([]byte("\r"), size), size, size)
	f("lines ending in carriage returns", bytes.Repeat([]byte("data:x\r\r"), size/8), size, size/8)
	f("the same, line feed last", append(bytes.Repeat([]byte("data:x\r"), size/8), "\n\n"...), size, 1)
}

func TestAppend(t *testing.T) {
	t.Parallel()
	f := func(got []byte, want string) {
		t.Helper()
		if string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f(AppendData([]byte("."), []byte("{}")), ".data: {}\n\n")
	f(AppendEvent([]byte("."), "e", []byte("{}")), ".event: e\ndata: {}\n\n")
	f(AppendComment([]byte("."), "ping"), ".: ping\n\n")
}

// reference is the parser as the standard tells it, on a whole stream.
func reference(in []byte) (events []event) {
	in = bytes.ReplaceAll(in, []byte("\r\n"), []byte("\n"))
	in = bytes.ReplaceAll(in, []byte("\r"), []byte("\n"))
	in = bytes.TrimPrefix(in, []byte("\xef\xbb\xbf"))
	e := event{none, none, none}
	lines := strings.Split(string(in), "\n")
	for i, line := range lines {
		last := i == len(lines)-1 // what follows the last line end
		if line == "" && !last {
			events = append(events, e)
			e = event{none, none, none}
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			e.Event = value
		case "id":
			if !strings.Contains(value, "\x00") {
				e.ID = value
			}
		case "data":
			if e.Data == none {
				e.Data = value
			} else {
				e.Data += "\n" + value
			}
		}
		if last && e.Data != none {
			events = append(events, e)
		}
	}
	return events
}

func FuzzReader(f *testing.F) {
	for _, s := range []string{
		"data: x\n\n", "data: x\r\n\r\ndata: y\r\n\r\n", "event: e\nid: 1\ndata: x\ndata: y\r\r", "\xef\xbb\xbf: c\n\n\n\rdata",
		"data: x\r", "\r\n\n\r\r\n", "id: \x00\nretry: 1\nevent\n\n", "data:a\rdata:b\n\ndata:c",
	} {
		f.Add([]byte(s), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		if bytes.Contains(in, []byte(none)) {
			return
		}
		want := reference(in)
		check := func(how string, chunks ...[]byte) {
			var r Reader
			got, raw, pending := read(t, &r, true, chunks...)
			if !slices.Equal(got, want) {
				t.Fatalf("%s: got %q, want %q", how, got, want)
			}
			if len(raw)+pending != len(in) || !bytes.HasPrefix(in, raw) {
				t.Fatalf("%s: raw bytes %q and %d pending of %q", how, raw, pending, in)
			}
		}
		check("chunks", slices.Collect(slices.Chunk(in, int(size)+1))...)
		if len(in) < 300 {
			splits(in, check)
		}
	})
}
