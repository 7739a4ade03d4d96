package proxy

import (
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"
)

// cyclsVersion is how an agent with an older version of cycls answers: first
// says "one", rest says "two" and ends.
type cyclsVersion struct {
	era         string // the option's word; auto must find it out
	path        string // where it answers
	first, rest string
	noEnd       bool // the clean end of the body is the only one
	failure     string
}

func pyChunk(content string) string {
	return `data: {"choices": [{"delta": {"content": ` + content + `}}]}` + "\n\n"
}

var cyclsVersions = []cyclsVersion{
	{era: "typed", path: "/chat", first: `data: {"type": "text", "text": "one"}` + "\n\n", rest: `data: {"type": "text", "text": " two"}` + "\n\ndata: [DONE]\n\n",
		failure: `data: {"type": "thinking", "thinking": "\u26a0\ufe0f Error\n` + "```" + `\nkaput` + "```" + `"}` + "\n\ndata: [DONE]\n\n"},
	{era: "array", path: "/chat/cycls", first: `data: ["+", "text", {"content": "one"}]` + "\n\n",
		rest: `data: ["~", {"content": " two"}]` + "\n\ndata: [\"-\"]\n\ndata: [DONE]\n\n"},
	{era: "text", path: "/", first: "one", rest: " two", noEnd: true},
	{era: "chat", path: "/chat/completions", first: pyChunk(`"one"`), rest: pyChunk(`" two"`) + "data: [DONE]\n\n",
		failure: pyChunk(`"\n\n[stream failed: kaput]"`) + "data: [DONE]\n\n"},
	{era: "chat", path: "/chat/completions",
		first: `data: {"id": "chatcmpl-123", "object": "chat.completion.chunk", "created": 1728083325, "model": "model-1-2025-01-01", "system_fingerprint": "fp_123456", "choices": [{"delta": {"content": "one"}}]}` + "\n\n",
		rest:  `data: {"id": "chatcmpl-123", "object": "chat.completion.chunk", "created": 1728083325, "model": "model-1-2025-01-01", "system_fingerprint": "fp_123456", "choices": [{"delta": {"content": " two"}}]}` + "\n\ndata: [DONE]\n\n"},
}

// eachVersion runs fn for every pair of a face and an older version.
func eachVersion(t *testing.T, fn func(t *testing.T, f face, v cyclsVersion)) {
	for i, v := range cyclsVersions {
		for _, f := range clientFaces {
			t.Run(f.name+"<-"+v.era+string(rune('0'+i)), func(t *testing.T) {
				t.Parallel()
				fn(t, f, v)
			})
		}
	}
}

// TestCyclsEras asks an agent of every era through every face, in both modes,
// with the era told and found out, and checks that the first words do not wait.
func TestCyclsEras(t *testing.T) {
	t.Parallel()
	eachVersion(t, func(t *testing.T, f face, v cyclsVersion) {
		gate := make(chan struct{}, 10)
		back := stage(t, func(x *visit) {
			if x.req.URL.Path != v.path {
				x.json(405, `{"detail":"Method Not Allowed"}`)
				return
			}
			x.open()
			x.chunk(v.first)
			if strings.Contains(string(x.body), "late") {
				<-gate
			}
			x.chunk(v.rest)
			x.end()
		})
		for _, era := range []string{"auto", v.era} {
			more := []string{"options: {era: " + era + "}"}
			if v.era == "chat" {
				more = append(more, "path: /chat/completions")
			}
			r := start(t, agentYAML("cycls", back.addr, more...))
			body, headers := f.ask("hello", false)
			got := r.post(f.path, body, headers)
			if got.status != 200 || f.text(got.body, false) != "one two" {
				t.Errorf("%s: JSON: %d %s", era, got.status, got.body)
			}
			body, headers = f.ask("late", true)
			c := r.dial()
			c.send("POST", f.path, body, headers)
			resp := c.response()
			all := until(t, resp.Body, "one")
			gate <- struct{}{}
			rest, err := io.ReadAll(resp.Body)
			if all += string(rest); err != nil || f.text(all, true) != "one two" || !f.whole(all) {
				t.Errorf("%s: stream: %v %q", era, err, all)
			}
			through := f.name == "cycls" && v.era == "typed"
			if line := r.waitLog(2); line["outcome"] != "completed" || (line["passed_through"] == true) != through {
				t.Errorf("%s: logged %v", era, line)
			}
		}
	})
}

// TestCyclsErasFail breaks the agent's answer off, ends it without its end, and
// tells a failure in the era's own words.
func TestCyclsErasFail(t *testing.T) {
	t.Parallel()
	eachVersion(t, func(t *testing.T, f face, v cyclsVersion) {
		gate := make(chan struct{}, 10)
		back := stage(t, func(x *visit) {
			how := string(x.body)
			x.open()
			x.chunk(v.first)
			if strings.Contains(how, "late") {
				<-gate
			}
			switch {
			case strings.Contains(how, "clean"):
				x.end()
			case strings.Contains(how, "fail"):
				x.chunk(v.failure)
				x.end()
			default:
				x.hangs = true
			}
		})
		r := start(t, agentYAML("cycls", back.addr, "path: "+v.path))
		for _, how := range []string{"cut", "clean", "fail"} {
			if how == "fail" && v.failure == "" {
				continue
			}
			body, headers := f.ask(how+" late", true)
			c := r.dial()
			c.send("POST", f.path, body, headers)
			resp := c.response()
			all := until(t, resp.Body, "one")
			gate <- struct{}{}
			rest, _ := io.ReadAll(resp.Body)
			all += string(rest)
			ok := f.failed
			switch {
			case how == "clean" && v.noEnd: // that protocol has no end
				ok = f.whole
			case how == "fail" && f.name == "cycls" && v.era == "typed": // its own words pass through
				ok = f.whole
			}
			if !ok(all) {
				t.Errorf("%s: %q", how, all)
			}
			body, headers = f.ask(how, false)
			got := r.post(f.path, body, headers)
			if how == "clean" && v.noEnd {
				if got.status != 200 || f.text(got.body, false) != "one" {
					t.Errorf("%s: JSON: %d %s", how, got.status, got.body)
				}
			} else if got.status != 502 || f.message(got.body) == "" || got.header.Get("X-Should-Retry") != "false" {
				t.Errorf("%s: JSON: %d %s", how, got.status, got.body)
			}
		}
	})
}

// TestCyclsTextThatLooksLikeAnEvent splits the first letters of text so that it
// could still be an event stream, and the other way round.
func TestCyclsTextThatLooksLikeAnEvent(t *testing.T) {
	t.Parallel()
	f := func(want string, through bool, pieces ...string) {
		t.Helper()
		back := stage(t, func(x *visit) {
			x.open()
			for _, p := range pieces {
				x.chunk(p)
			}
			x.end()
		})
		r := start(t, agentYAML("cycls", back.addr))
		for _, face := range clientFaces {
			for _, stream := range []bool{true, false} {
				body, headers := face.ask("hello", stream)
				got := r.post(face.path, body, headers)
				if got.status != 200 || face.text(got.body, stream) != want || stream && !face.whole(got.body) {
					t.Errorf("%s, stream=%t: %q: %d %q", face.name, stream, pieces, got.status, got.body)
				}
				if face.name == "cycls" && stream && through && got.body != strings.Join(pieces, "") {
					t.Errorf("not passed through: %q", got.body)
				}
			}
		}
	}
	f("data is what you make of it", false, "da", "ta", " is what you make of it")
	f("dat", false, "d", "at")
	f("\n\nid", false, "\n", "\nid")
	f(":)", false, ":", ")")
	f("w\u00f6rld \U0001f30d", false, "w\xc3", "\xb6rld \xf0\x9f", "\x8c\x8d")
	f("x", true, "da", "ta: {\"type\": \"te", "xt\", \"text\": \"x\"}\n\nda", "ta: [DONE]\n\n")
	f("x", true, ": hi\n\n", "\ndata: {\"type\": \"text\", \"text\": \"x\"}\n\ndata: [DONE]\n\n")
}

// TestCyclsPathsOfEveryVersion finds the path that speaks events, whatever else
// the version answers, and remembers it.
func TestCyclsPathsOfEveryVersion(t *testing.T) {
	t.Parallel()
	typed := cyclsVersions[0].first + cyclsVersions[0].rest
	array := cyclsVersions[1].first + cyclsVersions[1].rest
	for _, c := range []struct {
		version string
		serves  map[string]string
		order   string // of the first request
	}{
		{".30 to .62", map[string]string{"/": "one two"}, "/chat/cycls /chat /"},
		{".63 and .64", map[string]string{"/chat/cycls": array, "/": "raw"}, "/chat/cycls"},
		{".65 to .115", map[string]string{"/chat/cycls": typed, "/": "raw"}, "/chat/cycls"},
		{".116 to .118", map[string]string{"/": typed}, "/chat/cycls /chat /"},
		{".119 and newer", map[string]string{"/chat": typed, "/": typed}, "/chat/cycls /chat"},
	} {
		for _, status := range []int{404, 405} {
			t.Run(c.version, func(t *testing.T) {
				t.Parallel()
				back := stage(t, func(x *visit) {
					answer, ok := c.serves[x.req.URL.Path]
					if !ok {
						x.json(status, map[int]string{404: `{"detail":"Not Found"}`, 405: `{"detail":"Method Not Allowed"}`}[status])
						return
					}
					x.open()
					x.chunk(answer)
					x.end()
				})
				r := start(t, agentYAML("cycls", back.addr))
				want := c.order
				for range 3 {
					if got := r.post("/v1/chat/completions", chatHello, ""); got.status != 200 || chatText(got.body, false) != "one two" {
						t.Fatalf("%d %s", got.status, got.body)
					}
					var seen []string
					for len(back.seen) > 0 {
						seen = append(seen, (<-back.seen).req.URL.Path)
					}
					if got := strings.Join(seen, " "); got != want {
						t.Errorf("status %d: asked %s, want %s", status, got, want)
					}
					want = want[strings.LastIndexByte(want, ' ')+1:]
				}
			})
		}
	}
}

// TestCyclsBusyConversation carries a 409 with its Retry-After to every face.
func TestCyclsBusyConversation(t *testing.T) {
	t.Parallel()
	back := stage(t, func(x *visit) {
		x.json(409, `{"error":"run_in_progress","chat_id":"c9","detail":"This chat is still working on your last message."}`, "retry-after: 2")
	})
	r := start(t, agentYAML("cycls", back.addr))
	for _, f := range clientFaces {
		for _, stream := range []bool{true, false} {
			body, headers := f.ask("hello", stream)
			got := r.post(f.path, body, headers)
			if m := f.message(got.body); got.status != 409 || got.header.Get("Retry-After") != "2" || got.header.Get("X-Should-Retry") != "" ||
				!strings.Contains(m, "still working on your last message") {
				t.Errorf("%s, stream=%t: %d, retry after %q: %s", f.name, stream, got.status, got.header.Get("Retry-After"), got.body)
			}
		}
	}
	body, headers := clientFaces[len(clientFaces)-1].ask("hello", true)
	r.post("/chat?id=c%209", body, headers)
	var query string
	for len(back.seen) > 0 {
		query = (<-back.seen).req.URL.RawQuery
	}
	if query != "id=c+9" {
		t.Errorf("a Cycls client's id went on as %q", query)
	}
}

// TestCyclsErrorIsToldOnce cuts a stream that passes through behind the server's
// own error callout: only the end is missing.
func TestCyclsErrorIsToldOnce(t *testing.T) {
	t.Parallel()
	b := backendScripts[5]
	callout, _, _ := strings.Cut(b.failure, "data: [DONE]")
	for _, how := range []string{"clean", "cut"} {
		gate := make(chan struct{})
		back := stage(t, func(x *visit) {
			x.open()
			x.chunk(b.first)
			<-gate
			x.chunk(callout)
			if x.hangs = how == "cut"; !x.hangs {
				x.end()
			}
		})
		r := start(t, agentYAML("cycls", back.addr))
		c := r.dial()
		c.send("POST", "/chat", `{"messages":[{"role":"user","content":"hello"}]}`, "")
		resp := c.response()
		all := until(t, resp.Body, "one")
		close(gate)
		rest, _ := io.ReadAll(resp.Body)
		if all += string(rest); resp.StatusCode != 200 || all != b.first+callout+"data: [DONE]\n\n" {
			t.Errorf("%s: %d %q", how, resp.StatusCode, all)
		}
		if line := r.waitLog(1); line["outcome"] != "failed" {
			t.Errorf("%s: logged %v", how, line)
		}
	}
}

// TestFailureWithTheFirstBytes is an HTTP status or a stream that says so,
// whichever the proxy had promised when it came, and never a success in the log.
func TestFailureWithTheFirstBytes(t *testing.T) {
	t.Parallel()
	b := backendScripts[5]
	for _, how := range []string{"done", "clean", "cut"} {
		back := stage(t, func(x *visit) {
			all, done, _ := strings.Cut(b.first+b.failure, "data: [DONE]")
			length := len(all)
			switch how {
			case "done":
				all += "data: [DONE]" + done
				length = len(all)
			case "cut":
				length, x.hangs = 5000, true
			}
			_, _ = io.WriteString(x.conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: "+strconv.Itoa(length)+"\r\n\r\n"+all)
		})
		r := start(t, agentYAML("cycls", back.addr))
		for i, f := range clientFaces {
			body, headers := f.ask("hello", true)
			got := r.post(f.path, body, headers)
			failed := got.status == 502 && f.message(got.body) != "" || got.status == 200 && f.failed(got.body)
			if line := r.waitLog(i + 1); !failed || line["outcome"] != "failed" {
				t.Errorf("%s, %s: %d %q, logged %v", f.name, how, got.status, got.body, line["outcome"])
			}
		}
	}
}

// letter is an event of an agent that spells its answer out.
func letter(s string) string { return `data: {"type": "text", "text": "` + s + `"}` + "\n\n" }

// deltas are the pieces of text that a chat client gets.
func deltas(stream string) []string {
	var all []string
	data, _ := frames(stream)
	for _, d := range data {
		if s := gjson.Get(d, "choices.0.delta.content").String(); s != "" {
			all = append(all, s)
		}
	}
	return all
}

// TestLettersAreGathered has an agent send a letter an event. The first goes at
// once; those that follow wait for more, at most until the time is over, for a
// word, or for the end.
func TestLettersAreGathered(t *testing.T) {
	t.Parallel()
	f := func(name string, wait time.Duration, run func(x *visit, told func(string)), want ...string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := make(chan string, 100)
			back := stage(t, func(x *visit) {
				x.open()
				x.chunk(letter("A"))
				seen := ""
				told := func(s string) { // waits until the client has it
					for !strings.Contains(seen, s) {
						seen += <-got
					}
				}
				told("A")
				run(x, told)
			})
			r := start(t, agentYAML("cycls", back.addr))
			r.gather = wait
			c := r.dial()
			body, headers := clientFaces[0].ask("hello", true)
			c.send("POST", clientFaces[0].path, body, headers)
			resp := c.response()
			var all strings.Builder
			b := make([]byte, 4096)
			for {
				n, err := resp.Body.Read(b)
				had := len(strings.Join(deltas(all.String()), ""))
				all.Write(b[:n])
				if text := strings.Join(deltas(all.String()), ""); len(text) > had {
					got <- text[had:]
				}
				if err != nil {
					break
				}
			}
			if d := deltas(all.String()); strings.Join(d, "|") != strings.Join(want, "|") || !chatWhole(all.String()) {
				t.Errorf("got %q, want %q", d, want)
			}
		})
	}
	done := "data: [DONE]\n\n"
	f("until the end", time.Hour, func(x *visit, _ func(string)) {
		for _, s := range []string{"b", "c", "d"} {
			x.chunk(letter(s))
		}
		x.chunk(done)
		x.end()
	}, "A", "bcd")
	f("until a word", time.Hour, func(x *visit, told func(string)) {
		x.chunk(letter("b"))
		x.chunk(letter("c"))
		x.chunk(letter(" word"))
		told(" word")
		x.chunk(letter(".")) // behind a word it does not wait
		told(".")
		x.chunk(done)
		x.end()
	}, "A", "bc", " word", ".")
	f("until another event", time.Hour, func(x *visit, told func(string)) {
		x.chunk(letter("b"))
		x.chunk(`data: {"type": "code", "code": "x=1"}` + "\n\n")
		told("x=1")
		x.chunk(done)
		x.end()
	}, "A", "b", "\n\n````\n", "x=1", "\n````")
	f("until the time is over", time.Millisecond, func(x *visit, told func(string)) {
		x.chunk(letter("b"))
		told("b") // nothing else comes
		x.chunk(done)
		x.end()
	}, "A", "b")
	f("of one read", 0, func(x *visit, told func(string)) {
		x.chunk(letter("b") + letter("c") + letter("d"))
		told("d")
		x.chunk(done)
		x.end()
	}, "A", "bcd")
	f("until a component", time.Hour, func(x *visit, _ func(string)) {
		x.chunk(letter("b"))
		x.chunk("data: {\"type\": \"callout\", \"callout\": \"Bye\"}\n\n" + done)
		x.end()
	}, "A", "b", "\n\n> Bye")
}

// TestLettersPassThrough leaves a Cycls client's own stream alone.
func TestLettersPassThrough(t *testing.T) {
	t.Parallel()
	stream := letter("A") + letter("b") + letter("c") + "data: [DONE]\n\n"
	back := stage(t, func(x *visit) {
		x.open()
		x.chunk(stream)
		x.end()
	})
	r := start(t, agentYAML("cycls", back.addr))
	r.gather = time.Hour
	if got := r.post("/chat", `{"messages":[{"role":"user","content":"hello"}]}`, ""); got.body != stream {
		t.Errorf("%q", got.body)
	}
}
