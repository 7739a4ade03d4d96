package translate

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
	"github.com/dragoman-proxy/dragoman/internal/sse"
)

var (
	update       = flag.Bool("update", false, "write what the faces must send (face.*, dropped.txt)")
	updateEvents = flag.Bool("update-events", false, "write events.txt too")
	offsets      = flag.Int("offsets", 150, "at how many places each stream is cut in front of a decoder and the faces; 0: at every one")
)

// goldenCase is a folder of testdata: what a backend sent (backend.sse or
// backend.json, with backend.status if it was no 200), the events that must
// come of it (events.txt), what each face must send for it
// (face.<protocol>.sse, face.<protocol>.json), and what was lost
// (dropped.txt). An empty file named cut says that the connection broke.
type goldenCase struct {
	dir     string
	backend *Protocol
	body    []byte
	stream  bool
	status  int
	cause   *Error
}

func goldenCases(t testing.TB) []*goldenCase {
	t.Helper()
	var cases []*goldenCase
	for _, p := range registry {
		dirs, err := filepath.Glob(filepath.Join("testdata", p.Name, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range dirs {
			c := &goldenCase{dir: dir, backend: p, status: 200}
			if c.body, err = os.ReadFile(filepath.Join(dir, "backend.sse")); err == nil {
				c.stream = true
			} else if c.body, err = os.ReadFile(filepath.Join(dir, "backend.json")); err != nil {
				t.Fatalf("%s has neither backend.sse nor backend.json", dir)
			}
			if s, err := os.ReadFile(filepath.Join(dir, "backend.status")); err == nil {
				if c.status, err = strconv.Atoi(strings.TrimSpace(string(s))); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := os.Stat(filepath.Join(dir, "cut")); err == nil {
				c.cause = Truncated(errors.New("connection reset by peer"))
			}
			cases = append(cases, c)
		}
	}
	return cases
}

func (c *goldenCase) name() string { return c.backend.Name + "/" + filepath.Base(c.dir) }

// goldenRequests is a request of each face. All of them offer the function
// get_weather and the custom tool run_code, whether their protocol can say so
// or not.
var goldenRequests = map[string]Inbound{
	"chat": {Body: []byte(`{"model":"demo-model","messages":[{"role":"user","content":"Hello"}],"stream_options":{"include_usage":true},"logprobs":true}`)},
	"responses": {Body: []byte(`{"model":"demo-model","input":"Hello","include":["message.output_text.logprobs"],"instructions":"Be brief.","temperature":0.5,"metadata":{"k":"v"},` +
		`"tools":[{"type":"function","name":"get_weather","description":"Weather of a city","parameters":{"type":"object","properties":{"city":{"type":"string"}}},"strict":false},` +
		`{"type":"custom","name":"run_code"}]}`)},
	"cognipeer": {Body: []byte(`{"model":"demo-model","input":"Hello"}`)},
	"ticos":     {ID: "demo-model", Body: []byte(`{"input":"Hello"}`)},
	"swarms":    {Body: []byte(`{"agent_config":{"agent_name":"demo","model_name":"demo-model"},"task":"Hello"}`)},
	"cycls":     {Body: []byte(`{"messages":[{"role":"user","content":"Hello"}]}`)},
}

var goldenTools = []Tool{
	{Kind: ToolFunction, Name: "get_weather", Description: "Weather of a city", Parameters: `{"type":"object","properties":{"city":{"type":"string"}}}`, Strict: No},
	{Kind: ToolCustom, Name: "run_code"},
}

func goldenSetup(t testing.TB, face *Protocol, stream bool) *Setup {
	t.Helper()
	in := goldenRequests[face.Name]
	for i := range face.Routes {
		if face.Routes[i].Op == OpGenerate {
			in.Route = &face.Routes[i]
			break
		}
	}
	r, e := face.DecodeRequest(&in)
	if e != nil {
		t.Fatalf("the request of %s: %v (%s)", face.Name, e, e.Param)
	}
	r.Face, r.Model, r.Stream, r.IncludeUsage, r.Ledger = face, "demo-model", stream, true, Ledger{}
	if len(r.Tools) == 0 {
		r.Tools = goldenTools
	}
	now := time.Date(2026, 2, 5, 0, 58, 15, 121915000, time.UTC)
	return &Setup{
		Request: r, Agent: &Agent{Name: "demo", Options: map[string]string{}}, Seed: "0123456789abcdef0123456789abcdef",
		Now: func() time.Time { return now }, Created: now.Unix(), Ledger: &Ledger{}, Decoded: &Checker{}, Encoded: &Checker{},
	}
}

// pieces calls fn with the pieces of b when it is cut at the given places.
func pieces(b []byte, cuts []int, fn func(p []byte)) {
	at := 0
	for _, c := range cuts {
		fn(b[at:c])
		at = c
	}
	fn(b[at:])
}

// decode runs the backend's decoder alone and returns its events in text form.
func (c *goldenCase) decode(t testing.TB, cuts []int) string {
	if c.status != 200 {
		e := BackendStatus(c.status, ParseErrorBody("", c.body), 0, false)
		return eventText(&Event{Kind: EventFail, Err: e}) + "\n"
	}
	log := &eventLog{}
	check := &Checker{Next: log}
	dec := c.backend.NewDecoder(goldenSetup(t, registry[0], c.stream))
	if d, raw := c.unframed(dec); raw {
		var own []byte
		pieces(c.body, cuts, func(p []byte) {
			own = append(own[:0], p...)
			d.Text(own, check)
			for i := range own {
				own[i] = 0
			}
		})
		dec.End(c.cause, check)
	} else if c.stream {
		var r sse.Reader
		r.Max = MaxFrame
		var own []byte
		pieces(c.body, cuts, func(p []byte) {
			own = append(own[:0], p...)
			r.Feed(own)
			for f, ok := r.Next(); ok; f, ok = r.Next() {
				if !check.Ended() {
					dec.Frame(&f, check)
				}
			}
			for i := range own {
				own[i] = 0 // neither reader nor decoder may hold on to it
			}
		})
		if f, ok := r.Flush(); ok && c.cause == nil && !check.Ended() {
			dec.Frame(&f, check)
		}
		if !check.Ended() {
			dec.End(c.cause, check)
		}
	} else {
		dec.JSON(c.body, check)
	}
	if err := check.Err(); err != nil {
		t.Errorf("events out of order: %v\n%s", err, log)
	}
	if !check.Ended() {
		log.b.WriteString("(no end)\n")
	}
	return log.String()
}

// answer runs the case through to a face and returns what its client gets: a
// stream, a JSON body, or an HTTP status and an error body.
func (c *goldenCase) answer(t testing.TB, face *Protocol, stream bool, cuts []int) (out []byte, a *Answer, s *Setup) {
	s = goldenSetup(t, face, stream)
	if c.status != 200 {
		e := BackendStatus(c.status, ParseErrorBody("", c.body), 0, false)
		return face.AppendError([]byte(fmt.Sprintf("HTTP %d\n", e.Status)), e), nil, s
	}
	a = NewAnswer(s, c.backend, stream, c.stream)
	if c.stream {
		var own []byte
		pieces(c.body, cuts, func(p []byte) {
			own = append(own[:0], p...)
			out = a.Feed(out, own)
			for i := range own {
				own[i] = 0
			}
		})
		out = a.End(out, c.cause)
	} else {
		out = a.Body(out, c.body)
	}
	if err := s.Decoded.Err(); err != nil {
		t.Errorf("%s: events out of order behind the decoder: %v", face.Name, err)
	}
	if err := s.Encoded.Err(); err != nil {
		t.Errorf("%s: events out of order before the encoder: %v", face.Name, err)
	}
	if !a.Ended() {
		t.Errorf("%s: the answer has no end", face.Name)
	}
	if e := a.Err(); e != nil && (!stream || !a.Started()) {
		return face.AppendError([]byte(fmt.Sprintf("HTTP %d\n", e.Status)), e), a, s
	}
	return out, a, s
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for _, c := range goldenCases(t) {
		t.Run(c.name(), func(t *testing.T) {
			t.Parallel()
			c.checkEvents(t)
			dropped := ""
			for _, face := range registry {
				for _, stream := range []bool{true, false} {
					dropped += c.checkFace(t, face, stream)
				}
			}
			c.compare(t, "dropped.txt", dropped, *update, true)
			if c.stream && c.status == 200 {
				c.checkSplits(t)
			}
		})
	}
}

func (c *goldenCase) compare(t *testing.T, name, got string, write, optional bool) {
	t.Helper()
	path := filepath.Join(c.dir, name)
	if write {
		if got == "" && optional {
			_ = os.Remove(path)
		} else if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil && !(optional && errors.Is(err, os.ErrNotExist)) {
		t.Error(err)
		return
	}
	w := string(want)
	if name == "events.txt" {
		w = canonicalEvents(t, w)
	}
	if got != w {
		t.Errorf("%s:\n%s", path, diffLines(got, w))
	}
}

// diffLines shows the first lines that differ.
func diffLines(got, want string) string {
	g, w := strings.SplitAfter(got, "\n"), strings.SplitAfter(want, "\n")
	i := 0
	for i < len(g) && i < len(w) && g[i] == w[i] {
		i++
	}
	tail := func(lines []string) string { return strings.Join(lines[min(i, len(lines)):min(i+4, len(lines))], "") }
	return fmt.Sprintf("line %d\ngot\n%s\nwant\n%s", i+1, tail(g), tail(w))
}

func (c *goldenCase) checkEvents(t *testing.T) {
	c.compare(t, "events.txt", c.decode(t, nil), *updateEvents, false)
}

// checkFace compares one cell of the matrix, and returns a line on what it
// lost.
func (c *goldenCase) checkFace(t *testing.T, face *Protocol, stream bool) string {
	out, a, s := c.answer(t, face, stream, nil)
	mode := "json"
	if stream {
		mode = "sse"
	}
	c.compare(t, "face."+face.Name+"."+mode, string(out), *update, false)
	body, refused := bytes.CutPrefix(out, []byte("HTTP "))
	if refused {
		if _, body, _ = bytes.Cut(body, []byte("\n")); !jsonx.Valid(body) {
			t.Errorf("%s: the error body is not JSON: %s", face.Name, body)
		}
		return ""
	}
	switch {
	case a.PassedThrough() && stream:
		c.checkUntouched(t, a, out)
	case a.PassedThrough():
		if !bytes.Equal(out, c.body) {
			t.Errorf("%s: passed through, but not untouched", face.Name)
		}
	case stream:
		if err := checkStream(face, out); err != nil {
			t.Errorf("%s: %v", face.Name, err)
		}
	default:
		if err := checkAnswer(face, out); err != nil {
			t.Errorf("%s: %v\n%s", face.Name, err, out)
		}
	}
	if !a.PassedThrough() && a.Err() == nil {
		c.checkParts(t, face, stream, out)
	}
	if h := s.Ledger.Header(); h != "" {
		return face.Name + "." + mode + ": " + h + "\n"
	}
	return ""
}

// checkUntouched: what passed through is what the backend sent, as far as whole
// frames go; a failure may follow.
func (c *goldenCase) checkUntouched(t *testing.T, a *Answer, out []byte) {
	want := bytes.TrimRight(c.body, "\r\n")
	e := a.Err()
	if e == nil {
		if got := bytes.TrimRight(out, "\r\n"); !bytes.Equal(got, want) {
			t.Errorf("passed through, but not untouched:\n%s", diffLines(string(got), string(want)))
		}
		return
	}
	if e.unreadable {
		return // the frames before the unreadable one; see the golden file
	}
	end := 0
	for _, blank := range []string{"\n\n", "\r\n\r\n"} {
		if i := bytes.LastIndex(c.body, []byte(blank)); i >= 0 {
			end = max(end, i+len(blank))
		}
	}
	whole := c.body[:end]
	// A [DONE] that tells the lie waits until the failure has been told.
	whole = bytes.TrimSuffix(whole, []byte("data: [DONE]\n\n"))
	if !bytes.HasPrefix(out, whole) {
		t.Errorf("passed through, but not untouched:\n%s", diffLines(string(out), string(whole)))
	}
}

// checkParts: a Cycls client must see as many components of a kind as the
// agent sent.
func (c *goldenCase) checkParts(t *testing.T, face *Protocol, stream bool, out []byte) {
	if face.Name != "cycls" || !stream {
		return
	}
	parts, err := checkCyclsStream(out)
	if err != nil {
		return // told already
	}
	got := map[string]int{}
	for _, p := range parts {
		got[p.kind]++
	}
	want := map[string]int{}
	for _, e := range parseEventText(t, strings.ReplaceAll(c.decode(t, nil), "(no end)", "")) {
		if e.Kind == EventBlockStart {
			want[e.Block.Type.String()]++
		}
	}
	for _, kind := range []string{"code", "table", "callout", "image"} {
		if got[kind] != want[kind] {
			t.Errorf("%d %s components, want %d", got[kind], kind, want[kind])
		}
	}
}

// checkSplits feeds the stream one byte at a time to every face, in two pieces
// cut at every place to the reader, and at many places to the decoder alone and
// to the faces in turn.
func (c *goldenCase) checkSplits(t *testing.T) {
	every := make([]int, len(c.body))
	for i := range every {
		every[i] = i
	}
	wantEvents := c.decode(t, nil)
	same := func(how string, face *Protocol, stream bool, got, want string) {
		if !c.sameText(t, face, stream, []byte(got), []byte(want)) {
			t.Fatalf("%s: %s", how, diffLines(got, want))
		}
	}
	same("byte by byte", nil, false, c.decode(t, every), wantEvents)
	type cell struct {
		face   *Protocol
		stream bool
		want   string
	}
	var cells []cell
	for _, face := range registry {
		for _, stream := range []bool{true, false} {
			out, _, _ := c.answer(t, face, stream, nil)
			cells = append(cells, cell{face, stream, string(out)})
			out, _, _ = c.answer(t, face, stream, every)
			same("byte by byte to "+face.Name, face, stream, string(out), cells[len(cells)-1].want)
		}
	}
	// Decoders see whole frames only, so that cutting the stream at every place
	// is a matter of the reader, and a number of places will do for the rest;
	// CI takes them all.
	every = every[:0]
	for i := 1; i < len(c.body); i += 1 + len(c.body)/(8<<10) {
		every = append(every, i)
	}
	if _, raw := c.unframed(c.backend.NewDecoder(goldenSetup(t, registry[0], true))); !raw {
		c.checkFrames(t, every)
	}
	stride := 1
	if *offsets > 0 {
		stride += len(every) / *offsets
	}
	for n := 0; n*stride < len(every); n++ {
		i := every[n*stride]
		same(fmt.Sprintf("cut at %d", i), nil, false, c.decode(t, []int{i}), wantEvents)
		k := cells[n%len(cells)]
		out, _, _ := c.answer(t, k.face, k.stream, []int{i})
		same(fmt.Sprintf("cut at %d, to %s", i, k.face.Name), k.face, k.stream, string(out), k.want)
	}
}

// checkFrames: a stream in two pieces has the frames that it has in one.
func (c *goldenCase) checkFrames(t *testing.T, cuts []int) {
	var want []sse.Frame
	var wantRaw, raw []byte
	read := func(cut int, fn func(f *sse.Frame)) {
		var r sse.Reader
		for _, p := range [][]byte{c.body[:cut], c.body[cut:]} {
			r.Feed(p)
			for f, ok := r.Next(); ok; f, ok = r.Next() {
				fn(&f)
			}
		}
		if f, ok := r.Flush(); ok {
			fn(&f)
		} else if n := r.Pending(); n == 1 {
			// A line feed behind the last frame's carriage return.
			fn(&sse.Frame{Raw: c.body[len(c.body)-n:]})
		}
	}
	read(0, func(f *sse.Frame) {
		want = append(want, sse.Frame{Event: bytes.Clone(f.Event), Data: bytes.Clone(f.Data)})
		wantRaw = append(wantRaw, f.Raw...)
	})
	for _, cut := range cuts {
		n := 0
		raw = raw[:0]
		read(cut, func(f *sse.Frame) {
			raw = append(raw, f.Raw...)
			if string(f.Raw) == "\n" {
				return
			}
			if n >= len(want) || !bytes.Equal(f.Event, want[n].Event) || !bytes.Equal(f.Data, want[n].Data) {
				t.Fatalf("cut at %d: frame %d is %q %q", cut, n, f.Event, f.Data)
			}
			n++
		})
		if n != len(want) || !bytes.Equal(raw, wantRaw) {
			t.Fatalf("cut at %d: %d frames, want %d, or their bytes differ", cut, n, len(want))
		}
	}
}
