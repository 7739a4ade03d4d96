package translate

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// FuzzAnswer sends arbitrary bytes, as a stream in two pieces or as a body,
// from any backend to any face. Whatever they are: the events keep their order
// on both sides of the stages, the answer ends, the client gets well-formed
// frames or JSON, a stream comes out the same however it is cut, and nothing
// that did not finish looks finished.
func FuzzAnswer(f *testing.F) {
	for i, p := range registry {
		for face := range registry {
			c := canonicalAnswers[p.Name]
			f.Add(uint8(i), uint8(face), uint8(3), uint16(100), []byte(c.stream))
			f.Add(uint8(i), uint8(face), uint8(1), uint16(300), []byte(c.stream))
			f.Add(uint8(i), uint8(face), uint8(2), uint16(0), []byte(c.body))
			f.Add(uint8(i), uint8(face), uint8(0), uint16(0), []byte(c.body))
		}
	}
	for _, c := range goldenCases(f) {
		if c.status != 200 {
			continue
		}
		for i, p := range registry {
			if p == c.backend && len(c.body) < 4<<10 {
				mode := uint8(2)
				if c.stream {
					mode = 3
				}
				f.Add(uint8(i), uint8(len(c.body)%len(registry)), mode, uint16(len(c.body)/2), c.body)
			}
		}
	}
	f.Fuzz(func(t *testing.T, from, to, mode uint8, cut uint16, data []byte) {
		c := &goldenCase{
			backend: registry[int(from)%len(registry)], body: data, stream: mode&1 != 0, status: 200,
		}
		if mode&4 != 0 {
			c.cause = Truncated(nil)
		}
		checkAnyAnswer(t, c, registry[int(to)%len(registry)], mode&2 != 0, int(cut))
	})
}

// FuzzFrames does the same to what backends really send, with frames lost,
// doubled, swapped and taken from another answer, values changed for others,
// and the end missing.
func FuzzFrames(f *testing.F) {
	cases := goldenCases(f)
	for i := range cases {
		f.Add(uint16(i), uint8(i), uint64(i))
	}
	f.Fuzz(func(t *testing.T, which uint16, to uint8, seed uint64) {
		c := *cases[int(which)%len(cases)]
		rnd := rand.New(rand.NewPCG(seed, 1))
		for other := range cases {
			// The material to mix in: the next case of the same kind.
			o := cases[(int(which)+other+1)%len(cases)]
			if o.backend == c.backend && o.stream == c.stream {
				c.body = mutate(rnd, c.body, o.body, c.stream)
				break
			}
		}
		c.status = 200
		if rnd.IntN(4) == 0 {
			c.cause = Truncated(nil)
		}
		checkAnyAnswer(t, &c, registry[int(to)%len(registry)], rnd.IntN(3) > 0, rnd.IntN(len(c.body)+1))
	})
}

// mutate changes a few frames of a stream, or a few values of a body.
func mutate(rnd *rand.Rand, body, other []byte, stream bool) []byte {
	if !stream {
		return mutateJSON(rnd, body)
	}
	list := bytes.SplitAfter(body, []byte("\n\n"))
	others := bytes.SplitAfter(other, []byte("\n\n"))
	for range 1 + rnd.IntN(4) {
		if len(list) == 0 {
			break
		}
		i := rnd.IntN(len(list))
		switch rnd.IntN(7) {
		case 0:
			list = slices.Delete(list, i, i+1)
		case 1:
			list = slices.Insert(list, i, list[rnd.IntN(len(list))])
		case 2:
			j := rnd.IntN(len(list))
			list[i], list[j] = list[j], list[i]
		case 3:
			list = slices.Insert(list, i, others[rnd.IntN(len(others))])
		case 4:
			list = list[:i]
		default:
			head, data, ok := bytes.Cut(list[i], []byte("data: "))
			if ok {
				list[i] = slices.Concat(head, []byte("data: "), mutateJSON(rnd, bytes.TrimRight(data, "\n")), []byte("\n\n"))
			}
		}
	}
	return slices.Concat(list...)
}

// mutateJSON puts another value in the place of one.
func mutateJSON(rnd *rand.Rand, doc []byte) []byte {
	values := [...]string{`null`, `true`, `-1`, `1e9`, `""`, `"x"`, `"\ud83d"`, `"[DONE]"`, `"{}"`, `[]`, `{}`, `[null]`, `{"type":"text","text":"y"}`, `"response.completed"`,
		`"get_weather"`, `9223372036854775808`, `[[1,"a"]]`}
	var places [][2]int
	var walk func(v gjson.Result)
	walk = func(v gjson.Result) {
		v.ForEach(func(_, w gjson.Result) bool {
			at := strings.Index(viewString(doc), w.Raw) // any equal value will do
			places = append(places, [2]int{at, at + len(w.Raw)})
			if w.IsObject() || w.IsArray() {
				walk(w)
			}
			return true
		})
	}
	walk(gjson.ParseBytes(doc))
	if len(places) == 0 {
		return doc
	}
	p := places[rnd.IntN(len(places))]
	return slices.Concat(doc[:p[0]], []byte(values[rnd.IntN(len(values))]), doc[p[1]:])
}

func checkAnyAnswer(t *testing.T, c *goldenCase, face *Protocol, wantStream bool, cut int) {
	if !c.stream && jsonx.Check(c.body, jsonx.CheckOptions{}) == nil {
		c.decode(t, nil)
	}
	var cuts []int
	if cut < len(c.body) {
		cuts = []int{cut}
	}
	out, a, s := c.answer(t, face, wantStream, nil)
	if c.stream {
		again, b, _ := c.answer(t, face, wantStream, cuts)
		if (a.Err() == nil) != (b.Err() == nil) || !c.sameText(t, face, wantStream, again, out) {
			t.Fatalf("cut at %d: %s", cut, diffLines(string(again), string(out)))
		}
	}
	if a.PassedThrough() {
		return
	}
	if !s.Encoded.Ended() {
		t.Error("no end reached the encoder")
	}
	if utf8.Valid(c.body) && !utf8.Valid(out) {
		t.Errorf("not UTF-8: %q", out)
	}
	body, refused := bytes.CutPrefix(out, []byte("HTTP "))
	switch {
	case refused:
		if _, body, _ = bytes.Cut(body, []byte("\n")); !jsonx.Valid(body) {
			t.Errorf("the error body is not JSON: %s", body)
		}
		return
	case wantStream:
		if err := checkStream(face, out); err != nil {
			t.Errorf("%s: %v\n%s", face.Name, err, out)
		}
	case !jsonx.Valid(out):
		t.Errorf("the answer is not JSON: %s", out)
	}
	back := readBack(t, face, wantStream, out)
	if c.backend.Name == "cycls" && a.Err() == nil {
		return // in other surroundings an agent's callout may look like a failure
	}
	if (back.Err == nil) != (a.Err() == nil) {
		t.Errorf("failed %v, told %v:\n%s", a.Err(), back.Err, out)
	}
}

// FuzzErrorBody reads arbitrary error bodies: what is shown of them is clean,
// short and text, in every face's words.
func FuzzErrorBody(f *testing.F) {
	for _, body := range []string{
		`{"error":{"message":"m","type":"t","param":null,"code":null}}`, `{"error":"Agent not found"}`, `{"detail":[{"loc":["body",0],"msg":"x"}]}`,
		`{"detail":{"a":[1]}}`, `{"message":"m"}`, `[{"error":{"message":"m"}}]`, `[]`, `<html>`, "plain\x00\xff", `{"error":{"code":{"a":1},"message":["x"]}}`,
	} {
		f.Add(404, "application/json", []byte(body))
		f.Add(429, "text/html", []byte(body))
	}
	f.Fuzz(func(t *testing.T, status int, contentType string, body []byte) {
		e := BackendStatus(status, ParseErrorBody(contentType, body), 0, status%2 == 0)
		if e == nil || e.Status < 400 || e.Status > 599 || e.Message == "" || e.Code == "" {
			t.Fatalf("%+v", e)
		}
		if m := e.Message; len(m) > 1024 || !utf8.ValidString(m) || strings.ContainsAny(m, "\x00\x1b\r\n\u0085\u2028") {
			t.Errorf("message %q", m)
		}
		for _, face := range registry {
			out := face.AppendError(nil, e)
			if !jsonx.Valid(out) || !utf8.Valid(out) {
				t.Errorf("%s: %q", face.Name, out)
			}
			stream := face.AppendFailure(nil, e, &Tap{Seq: -1})
			frames, err := splitStream(stream)
			if err != nil || len(frames) == 0 {
				t.Errorf("%s: %v: %q", face.Name, err, stream)
			}
		}
	})
}
