package translate

import (
	"fmt"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// FuzzKeptTurns keeps what clients say, whatever it is: it stays JSON, has as many items, and can be replayed.
func FuzzKeptTurns(f *testing.F) {
	for _, input := range []string{
		`"hello"`, `[]`, `[42]`, `[null,"x",{}]`, `[{"role":"user","content":"x"}]`, `[{"id":7,"type":"message","content":[1]}]`, `[{"type":"item_reference","id":"a"},{"id":"a"},{"id":"b"}]`,
		`[{"type":"reasoning","summary":[],"encrypted_content":"x","id":"rs_1"},{"type":"reasoning"}]`, `{"a":1}`, `null`, `7`, `[{"type":"function_call_output","call_id":"c","output":"x"}]`, `[{ }]`,
	} {
		f.Add(`{"model":"m","input":` + input + `,"messages":` + input + `}`)
	}
	f.Fuzz(func(t *testing.T, body string) {
		if CheckBody([]byte(body)) != nil {
			return
		}
		for _, p := range registry {
			face, ok := p.Face.(StateFace)
			if !ok {
				continue
			}
			r := &Request{Face: p, Body: []byte(body), Items: map[string]string{"a": `{"id":"a","type":"message","role":"user","content":"kept"}`}}
			kept := face.AppendTurn(nil, r, func(prefix string, n int) string { return fmt.Sprintf("%si%02x", prefix, n) })
			if err := jsonx.Check([]byte("["+string(kept)+"]"), jsonx.CheckOptions{}); err != nil {
				t.Fatalf("%s: %v: %s", p.Name, err, kept)
			}
			again := &Request{Face: p, Body: []byte(`{"model":"m","input":"on","messages":[{"role":"user","content":"on"}]}`), History: []string{string(kept)}}
			replayed := respReplayInput(again, gjson.Get(`{"input":"on"}`, "input"))
			if !jsonx.Valid([]byte(replayed)) {
				t.Fatalf("%s: %s", p.Name, replayed)
			}
			in := &Inbound{Body: again.Body, Lazy: true, State: true, ID: "m"}
			if r, e := p.DecodeRequest(in); e == nil {
				r.History = again.History
				_, _ = p.SpliceRequest(nil, r, &Agent{Name: "it"})
				_ = r.Complete()
			}
		}
	})
}
