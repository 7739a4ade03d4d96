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
