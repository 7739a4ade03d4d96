package translate

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
	"github.com/dragoman-proxy/dragoman/internal/sse"
)

// swarmsSeeds adds the backend bytes of the golden cases to a corpus.
func swarmsSeeds(f *testing.F, name string) {
	f.Helper()
	files, err := filepath.Glob("testdata/swarms/*/" + name)
	if err != nil || len(files) == 0 {
		f.Fatalf("no golden cases: %v", err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

// swarmsFuzzRequest offers the tools that the golden cases call.
func swarmsFuzzRequest() *Request {
	return &Request{
		Face:  &swarmsProtocol,
		Tools: []Tool{{Kind: ToolFunction, Name: "get_weather"}, {Kind: ToolCustom, Name: "run_code"}},
	}
}

// FuzzSwarmsRequest: a request either names what is wrong with it, or can be
// told to a Swarms backend in words that are read again; splicing keeps it
// valid.
func FuzzSwarmsRequest(f *testing.F) {
	for _, s := range []string{
		`{"agent_config":{"agent_name":"A","model_name":"m","system_prompt":"s","temperature":0.5,"max_tokens":1,"max_loops":"auto","llm_args":{"top_p":1,"x":{}},"tools_list_dictionary":[{"name":"f"}]},"task":"t","history":[{"role":"user","content":"q"}],"img":"http://x","imgs":["/9j/4AAQSkZJRg=="],"tools_enabled":["auto_search"],"stream":true}`,
		`{"agent_config":{},"history":{"a":{"role":"A","content":[{"function":{"name":"f","arguments":"{}"},"id":"c"}]},"b":{"role":"tool","content":"r"},"c":"text"}}`,
		`{"agent_config":{"llm_args":{"tool_choice":{"function":{"name":"f"}},"response_format":{"type":"json_schema"}}},"task":"t"}`,
	} {
		f.Add([]byte(s))
	}
	agent := &Agent{Name: "a", Model: "m", SystemPrompt: "s", MaxTokens: 3, Temperature: "0.1"}
	f.Fuzz(func(t *testing.T, body []byte) {
		if jsonx.Check(body, jsonx.CheckOptions{UTF8: true, Duplicates: 4}) != nil {
			return
		}
		r, err := swarmsProtocol.DecodeRequest(&Inbound{Body: body})
		if err != nil {
			if err.Status != 400 || r != nil {
				t.Fatalf("error %+v with %v", err, r)
			}
			return
		}
		spliced, err := swarmsProtocol.SpliceRequest(nil, r, agent)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := swarmsProtocol.DecodeRequest(&Inbound{Body: spliced}); err != nil || !jsonx.Valid(spliced) {
			t.Fatalf("spliced %s: %v", spliced, err)
		}
		encoded, err := swarmsProtocol.EncodeRequest(nil, r, agent, r.Stream)
		if err != nil {
			if err.Status != 400 || len(encoded) > 0 {
				t.Fatalf("error %+v with %s", err, encoded)
			}
			return
		}
		again, err := swarmsProtocol.DecodeRequest(&Inbound{Body: encoded})
		if err != nil || !jsonx.Valid(encoded) {
			t.Fatalf("encoded %s: %v", encoded, err)
		}
		if again.Stream != r.Stream || len(again.Tools) > len(r.Tools) {
			t.Fatalf("got\n%s\nwant\n%s", swarmsDump(again), swarmsDump(r))
		}
	})
}

// FuzzSwarmsStream: whatever a backend sends, the events keep their order, and
// what the client gets ends with done or with an error.
func FuzzSwarmsStream(f *testing.F) {
	swarmsSeeds(f, "backend.sse")
	f.Fuzz(func(t *testing.T, stream []byte) {
		s := swarmsSetup(swarmsFuzzRequest())
		sink := &swarmsBuffer{enc: swarmsProtocol.NewEncoder(s)}
		before := &Checker{Next: stages(s, &swarmsProtocol, sink)}
		dec := swarmsProtocol.NewDecoder(s)
		var r sse.Reader
		r.Feed(stream)
		for frame, ok := r.Next(); ok; frame, ok = r.Next() {
			dec.Frame(&frame, before)
		}
		dec.End(nil, before)
		if before.Err() != nil || !before.Ended() {
			t.Fatalf("order: %v, ended %t", before.Err(), before.Ended())
		}
		last := ""
		r.Reset()
		r.Feed(sink.buf)
		for frame, ok := r.Next(); ok; frame, ok = r.Next() {
			if last == "done" || last == "error" {
				t.Fatalf("after %s: %s", last, frame.Raw)
			}
			last = string(frame.Event)
			if frame.Data != nil && !jsonx.Valid(frame.Data) {
				t.Fatalf("not JSON: %s", frame.Data)
			}
		}
		if last != "done" && last != "error" || r.Pending() > 0 {
			t.Fatalf("the stream ends with %q: %s", last, sink.buf)
		}
	})
}

// FuzzSwarmsJSON: whatever a backend answers, the events keep their order, and
// the client's answer is JSON that is read as the same text.
func FuzzSwarmsJSON(f *testing.F) {
	swarmsSeeds(f, "backend.json")
	f.Fuzz(func(t *testing.T, body []byte) {
		if jsonx.Check(body, jsonx.CheckOptions{UTF8: true}) != nil {
			return
		}
		s := swarmsSetup(swarmsFuzzRequest())
		fold := NewFold()
		check := &Checker{Next: fold}
		swarmsProtocol.NewDecoder(s).JSON(body, check)
		if check.Err() != nil || !check.Ended() {
			t.Fatalf("order: %v, ended %t", check.Err(), check.Ended())
		}
		if fold.Err != nil {
			return
		}
		told := NewFold()
		out := stages(s, &swarmsProtocol, told)
		swarmsProtocol.NewDecoder(s).JSON(body, out)
		answer := swarmsProtocol.AppendAnswer(nil, s, told)
		if !jsonx.Valid(answer) {
			t.Fatalf("not JSON: %s", answer)
		}
		again := NewFold()
		swarmsProtocol.NewDecoder(s).JSON(answer, again)
		if again.Err != nil || again.Usage.Sum() != fold.Usage.Sum() {
			t.Fatalf("read again: %v, usage %+v of %+v", again.Err, again.Usage, fold.Usage)
		}
		if !bytes.Contains(body, []byte("function")) && again.Text() != fold.Text() {
			t.Fatalf("got %q, want %q", again.Text(), fold.Text())
		}
	})
}

// FuzzPythonJSON: whatever is taken for Python's repr becomes JSON, but for
// numbers, which its caller checks.
func FuzzPythonJSON(f *testing.F) {
	for _, s := range []string{`[{'a': "b\n", 'c': [None, True, -1.5]}]`, `[Call(id='c', f=F(n='x'))]`, `('\x41\u00fc\U0001f600',)`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, ok := pythonJSON(s)
		if ok && !jsonx.Valid(b) && !bytes.ContainsAny([]byte(s), "0123456789-") {
			t.Fatalf("%q became %s", s, b)
		}
	})
}
