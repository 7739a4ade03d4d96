package translate

import "testing"

// Clients name the defaults, and send null for what they do not set. Neither
// asks for anything, so that no backend loses it.
func TestDefaultsAndNullsLoseNothing(t *testing.T) {
	t.Parallel()
	requests := map[string]string{
		"chat": `{"model":"m","messages":[{"role":"user","content":"q","name":null}],"n":1,"stop":[],"logit_bias":{},"metadata":{},
			"presence_penalty":0,"frequency_penalty":0.0,"logprobs":false,"top_logprobs":0,"parallel_tool_calls":true,
			"service_tier":"auto","modalities":["text"],"response_format":{"type":"text"},"tools":[],"tool_choice":"auto",
			"functions":[],"seed":null,"user":null,"stream_options":{"include_obfuscation":false}}`,
		"responses": `{"model":"m","input":"q","truncation":"disabled","metadata":{},"parallel_tool_calls":true,"top_logprobs":0,
			"service_tier":"auto","text":{"format":{"type":"text"},"verbosity":null},"reasoning":{},"include":[],"tools":[],
			"store":false,"background":false,"stream_options":{"include_obfuscation":false},"previous_response_id":null}`,
		"cognipeer": `{"model":"m","input":"q","metadata":{},"temperature":null,"version":null,"runtime_context":null}`,
		"ticos":     `{"input":"q","model":null,"temperature":null}`,
		"swarms": `{"agent_config":{"agent_name":"A","description":null,"temperature":null,"llm_args":{},"mcp_url":null,
			"tools_list_dictionary":[]},"task":"q","history":null,"img":null,"imgs":[],"tools_enabled":null}`,
		"cycls": `{"messages":[{"role":"user","content":"q","attachments":null,"parts":null}],"session_id":null,"plan":null,"model":null,"id":null}`,
	}
	for face, body := range requests {
		for _, back := range Protocols() {
			if back.Name == face {
				continue
			}
			r, err := Lookup(face).DecodeRequest(&Inbound{Body: []byte(body), ID: "A"})
			if err != nil {
				t.Fatalf("%s: %v", face, err)
			}
			a := &Agent{Name: "A"}
			if _, err := back.Encode(nil, r, a, false); err != nil {
				t.Errorf("%s to %s: %v", face, back.Name, err)
			}
			if lost := r.Ledger.Names(); len(lost) > 0 {
				t.Errorf("%s to %s: lost %v", face, back.Name, lost)
			}
		}
	}
}

// What a backend of the client's own protocol makes of a request is its own
// affair: only translation needs to understand all of it.
func TestOddRequestsPassUntouched(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ face, body, param string }{
		{"swarms", `{"agent_config":{"agent_name":"A","temperature":"0.5"},"task":"q"}`, "agent_config.temperature"},
		{"swarms", `{"agent_config":{"agent_name":"A","max_loops":{}},"task":"q"}`, "agent_config.max_loops"},
		{"swarms", `{"agent_config":{"agent_name":"A"},"task":["q"]}`, "task"},
		{"swarms", `{"agent_config":{"agent_name":"A"},"task":"q","imgs":[null]}`, "imgs[0]"},
		{"swarms", `{"agent_config":{"agent_name":"A","marketplace_prompt_id":"p"}}`, "task"},
		{"cycls", `{"messages":[{"role":"critic","content":"q"}]}`, "messages[0].role"},
		{"cycls", `{"messages":[{"role":"user","content":{"form":1}}]}`, "messages[0].content"},
	} {
		p := Lookup(c.face)
		r, err := p.DecodeRequest(&Inbound{Body: []byte(c.body), Lazy: true})
		if err != nil {
			t.Errorf("%s: %v", c.body, err)
			continue
		}
		if out, err := p.SpliceRequest(nil, r, &Agent{Name: "A"}); err != nil || string(out) != c.body {
			t.Errorf("%s: passed on as %s, %v", c.body, out, err)
		}
		if _, err := Lookup("chat").Encode(nil, r, &Agent{Name: "A"}, false); err == nil || err.Param != c.param {
			t.Errorf("%s: translated with error %v, want one at %s", c.body, err, c.param)
		}
	}
}

// A body that tells an error beside what the agent has said is of an agent that
// ran: nobody is invited to try again.
func TestFailuresBesideWordsAreNotRetried(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		back, body string
		noRetry    bool
	}{
		{"swarms", `{"success":false,"error":"429: Rate limit exceeded","outputs":[{"role":"A","content":"half"}]}`, true},
		{"swarms", `{"success":false,"error":"429: Rate limit exceeded","outputs":[]}`, false},
		{"responses", `{"object":"response","status":"failed","error":{"code":"rate_limit_exceeded","message":"m"},"output":[{"type":"message","role":"assistant","content":[]}]}`, true},
		{"responses", `{"object":"response","status":"failed","error":{"code":"rate_limit_exceeded","message":"m"},"output":[]}`, false},
		{"chat", `{"error":{"message":"m","code":429},"choices":[{"index":0,"message":{"role":"assistant","content":"half"}}]}`, true},
		{"chat", `{"error":{"message":"m","code":429}}`, false},
	} {
		s := &Setup{Request: &Request{Face: Lookup("cycls")}}
		var err *Error
		Lookup(c.back).NewDecoder(s).JSON([]byte(c.body), sinkFunc(func(e *Event) { err = e.Err }))
		if err == nil || err.Status != 429 || err.NoRetry != c.noRetry {
			t.Errorf("%s: %+v, want a 429 with NoRetry %v", c.body, err, c.noRetry)
		}
	}
}
