package proxy

import (
	"strings"
	"testing"
)

// losing asks for what a Cycls agent has no place for.
const losing = `{"model":"it","messages":[{"role":"user","content":"hello"}],"seed":1,"stop":["x"],"zz":1}`

// TestStrictIsAskedForInThreePlaces: the whole configuration, an agent's, and the
// request. All that would be lost is named at once, and no agent runs.
func TestStrictIsAskedForInThreePlaces(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) {
		v.open()
		v.chunk(backendScripts[5].first + backendScripts[5].rest)
		v.end()
	})
	for _, c := range []struct {
		name, yaml, headers string
		strict              bool
	}{
		{"nowhere", agentYAML("cycls", back.addr), "", false},
		{"the request says no", agentYAML("cycls", back.addr), "Dragoman-Strict: false\r\n", false},
		{"the request", agentYAML("cycls", back.addr), "Dragoman-Strict: TRUE\r\n", true},
		{"the request in another word", agentYAML("cycls", back.addr), "Dragoman-Strict: 1\r\n", true},
		{"the agent", agentYAML("cycls", back.addr, "strict: true"), "", true},
		{"all agents", agentYAML("cycls", back.addr) + "translate: {strict: true}\n", "", true},
		{"the request cannot take it back", agentYAML("cycls", back.addr, "strict: true"), "Dragoman-Strict: false\r\n", true},
	} {
		r := start(t, c.yaml)
		got := r.post("/v1/chat/completions", losing, c.headers)
		ran := len(back.seen)
		for range ran {
			<-back.seen
		}
		if want := map[bool]int{true: 400, false: 200}[c.strict]; got.status != want || (ran > 0) == c.strict {
			t.Errorf("%s: %d %s, the agent ran %d times", c.name, got.status, got.body, ran)
		}
		if c.strict {
			for _, field := range []string{"seed", "stop", "unknown(1)"} {
				if !strings.Contains(openAIMessage(got.body), field) {
					t.Errorf("%s: %s does not name %s", c.name, got.body, field)
				}
			}
		}
		// What loses nothing is never refused.
		if got := r.post("/v1/chat/completions", chatHello, c.headers); got.status != 200 {
			t.Errorf("%s: %d %s", c.name, got.status, got.body)
		}
		<-back.seen
	}
}

// TestDroppedIsToldOfWhatAnAgentWasAsked: also where the answer is an error, but
// not where the request went nowhere.
func TestDroppedIsToldOfWhatAnAgentWasAsked(t *testing.T) {
	t.Parallel()
	refuses := stage(t, func(v *visit) { v.json(409, `{"error":"run_in_progress","detail":"Busy."}`, "Retry-After: 2") })
	fails := stage(t, func(v *visit) {
		v.open()
		v.chunk(backendScripts[5].failure)
		v.end()
	})
	f := func(name, yaml, body string, status int, want string) {
		t.Helper()
		got := start(t, yaml).post("/v1/chat/completions", body, "")
		if d := got.header.Get("Dragoman-Dropped"); got.status != status || d != want {
			t.Errorf("%s: %d %s, dropped %q, want %q", name, got.status, got.body, d, want)
		}
	}
	const lost = "seed, stop, unknown(1)"
	f("the agent refuses", agentYAML("cycls", refuses.addr), losing, 409, lost)
	f("the agent fails", agentYAML("cycls", fails.addr), losing, 502, lost)
	f("the agent is dead", agentYAML("cycls", deadAddr(t)), losing, 502, lost)
	f("strict", agentYAML("cycls", refuses.addr, "strict: true"), losing, 400, lost)
	f("what cannot be carried at all", agentYAML("cycls", refuses.addr), strings.Replace(losing, `"seed":1`, `"seed":1,"n":2`, 1), 400, "")
	f("no such agent", strings.Replace(agentYAML("cycls", refuses.addr), `aliases: ["*"]`, `aliases: [a]`, 1), strings.Replace(losing, `"it"`, `"nobody"`, 1), 404, "")
	f("an unreadable request", agentYAML("cycls", refuses.addr), strings.Replace(losing, `"hello"`, `7`, 1), 400, "")
}
