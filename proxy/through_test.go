package proxy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// odd is what re-marshalling would spoil: the order of members, numbers beyond a
// float, white space, escapes, text outside ASCII, members that nobody knows.
const odd = "\"zz\" : [ 9007199254740993,1.0 ,1e400,-0.0, 1E+2 ],\t\"x_unknown\":{\"b\":1,\"a\":{\"\\u0062\":\"<&>\\/\\u00e9\\ud83d\\udc4b é👋\\u2028\"}},\n  \"aa\":null"

// throughRequests are requests of each protocol, written oddly.
var throughRequests = map[string]struct {
	path, body string // in the body %t stands for whether a stream is asked for
}{
	"chat":      {path: "/v1/chat/completions", body: " \r\n{ " + odd + `, "messages":[ {"content":"h\u00efllo ☃","role":"user" , "x":1.50} ],"model" :"it" , "stream":%t }` + "\n\n"},
	"responses": {path: "/v1/responses", body: "\t{ " + odd + `, "input":[ {"content":"h\u00efllo ☃","role":"user" , "x":1.50} ],"model" :"it", "store" : false , "stream":%t }` + "\n"},
	"cognipeer": {path: "/api/client/v1/agents/responses", body: "\t{ " + odd + `, "input":[ {"content":"h\u00efllo ☃","role":"user" , "x":1.50} ],"model" :"it", "version":1.0, "stream":%t }` + "\n"},
	"ticos":     {path: "/v1/agents/it/responses", body: "{\n " + odd + `, "input" : [ { "type":"text","text":"h\u00efllo ☃","x":1.50} ] , "stream":%t}` + "\r\n"},
	"swarms":    {path: "/v1/agent/completions", body: "{ " + odd + `, "task": "h\u00efllo ☃", "agent_config": { "agent_name" :"it" , "x":1.50,"streaming_on":%t } }` + " "},
	"cycls":     {path: "/chat/cycls", body: "{ " + odd + `, "messages" :[ {"role":"user", "content" : [{ "type" :"text","text":"h\u00efllo ☃"}],"parts":[{ "type" :"text","text":"h\u00efllo ☃"}],"x":1.50 } ], "_":%t}` + " "},
}

// throughStreams are streams of each protocol, written oddly.
var throughStreams = map[string]string{
	"chat": ": first a comment\n\nid: 7\nretry: 3000\ndata: {\"id\" : \"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\", " + oneLine(odd) + ",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"h\\u00ef ☃\"},\"finish_reason\":null}]}\n\n" +
		"event: surprise\ndata: not even JSON\n\n:\n\n\n" +
		"data:{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\ndata:\"choices\":[{\"index\":0,\"delta\":{\"content\":\" two\"},\"finish_reason\":null}]}\n\n" +
		"data: {\"choices\":[],\"prompt_filter_results\":[]}\r\n\r\n" +
		"data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":9007199254740993}}\n\ndata: [DONE]\n\n: bye\n\n",
	"responses": ": hi\n\nretry: 5\n\n" + strings.ReplaceAll(backendScripts[1].first, "\"model\":\"m\"", "\"model\" : \"m\", "+oneLine(odd)) +
		"event: keepalive\ndata: {\"type\":\"keepalive\",\"sequence_number\":4}\n\nevent: response.surprise\nid: x\ndata: {\"type\":\"response.surprise\",\"n\":1e400}\n\n" +
		strings.ReplaceAll(backendScripts[1].rest, "\n", "\r\n"),
	"swarms": strings.Replace(backendScripts[4].first, "{\"job_id\"", "{ "+oneLine(odd)+", \"job_id\"", 1) + ": ping\n\nevent: billing\nid: 1\ndata: {\"cost\": 0.10}\n\n" + backendScripts[4].rest,
	"cycls": strings.Replace(backendScripts[5].first, "{\"type\": \"text\"", "{ "+oneLine(odd)+", \"type\": \"text\"", 1) +
		": ping\n\ndata: {\"type\": \"ui\", \"action\": \"confetti\", \"n\": 1.0}\r\n\r\n" + backendScripts[5].rest,
}

func oneLine(s string) string { return strings.NewReplacer("\n", " ", "\t", " ").Replace(s) }

// throughBodies are JSON answers of each protocol, written oddly.
func throughBody(b script) string {
	return " \n" + strings.Replace(b.body, "{", "{\t"+odd+" ,", 1) + "\r\n"
}

// TestRequestsPassUntouched compares what the backend received with what the
// client sent, byte by byte, and then with each permitted edit as the only
// difference.
func TestRequestsPassUntouched(t *testing.T) {
	t.Parallel()
	for _, b := range backendScripts {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			in := throughRequests[b.name]
			f := func(options, body, want string) {
				t.Helper()
				back := stage(t, func(v *visit) { v.answer(b) })
				r := start(t, "agents:\n  - {name: it, aliases: [\"*\"], protocol: "+b.name+", url: \"http://"+back.addr+"\", heartbeat: {stream: 0s}"+options+"}\n")
				got := r.post(in.path, body, "")
				if got.status != 200 {
					t.Fatalf("status %d: %s", got.status, got.body)
				}
				v := <-back.seen
				if string(v.body) != want {
					t.Errorf("with {%s} the backend received\n%q, want\n%q", options, v.body, want)
				}
				if d := got.header.Get("Dragoman-Dropped"); d != "" {
					t.Errorf("dropped %s", d)
				}
			}
			streams := []bool{false}
			if b.first != "" {
				streams = append(streams, true)
			}
			if b.name == "cycls" {
				streams = []bool{true}
			}
			for _, stream := range streams {
				body := fmt.Sprintf(in.body, stream)
				with := func(old, new string) string {
					t.Helper()
					if strings.Count(body, old) != 1 {
						t.Fatalf("%q stands %d times in the request", old, strings.Count(body, old))
					}
					return strings.Replace(body, old, new, 1)
				}
				f("", body, body)
				const defaults = `, defaults: {system_prompt: "Be é.", max_tokens: 7, temperature: 0.50}`
				switch b.name {
				case "chat":
					f(", model: other", body, with(`"model" :"it"`, `"model" :"other"`))
					f(defaults, body, chatDefaults(body))
					if stream {
						f(", options: {request_usage: true}", body, with("{ \"zz\"", `{"stream_options":{"include_usage":true}, "zz"`))
						f(", options: {request_usage: false}", body, body)
					}
				case "responses":
					f(", model: other", body, with(`"model" :"it"`, `"model" :"other"`))
					f(defaults, body, with("{ \"zz\"", `{"instructions":"Be é.","max_output_tokens":7,"temperature":0.5, "zz"`))
					told := with(` "store" : false ,`, ``)
					f("", told, strings.Replace(told, "{ \"zz\"", `{"store":false, "zz"`, 1))
				case "cognipeer":
					f(", model: other", body, with(`"model" :"it"`, `"model" :"other"`))
					f(`, options: {version: "3"}`, body, body) // the client names one
					f(`, defaults: {system_prompt: "Be é."}`, body, with(`"content":"h\u00efllo ☃"`, `"content":"System: Be é.\n\nUser: hïllo ☃"`))
				case "ticos":
					f(", model: other", body, body) // it is in the path
				case "swarms":
					f(", model: other", body, with(`"agent_config": { "agent_name"`, `"agent_config": {"model_name":"other", "agent_name"`))
					f(defaults, body, with(`"agent_config": { "agent_name"`, `"agent_config": {"system_prompt":"Be é.","max_tokens":7,"temperature":0.5, "agent_name"`))
				case "cycls":
					f(", model: other", body, body) // the protocol has no models
					// The form of old web clients, which agents before .65 do not read.
					parts := with(`"content" : [{ "type" :"text","text":"h\u00efllo ☃"}],`, "")
					f("", parts, strings.Replace(parts, `{"role":"user",`, `{"content":"h\u00efllo ☃","role":"user",`, 1))
					f(", options: {era: typed}", parts, parts)
					f(`, defaults: {system_prompt: "Be é."}`, body, with(`"messages" :[ {`, `"messages" :[{"role":"system","content":"Be é."}, {`))
				}
			}
		})
	}
}

// chatDefaults is the chat request with the defaults spliced in.
func chatDefaults(body string) string {
	body = strings.Replace(body, "{ \"zz\"", `{"max_tokens":7,"temperature":0.5, "zz"`, 1)
	return strings.Replace(body, `"messages":[ {`, `"messages":[{"role":"system","content":"Be é."}, {`, 1)
}

// answer is a whole and plain answer of a protocol, as it was asked for.
func (v *visit) answer(b script) {
	body := gjson.ParseBytes(v.body)
	stream := body.Get("stream").Bool() || body.Get("agent_config.streaming_on").Bool() || b.body == ""
	if b.first == "" || !stream {
		v.json(200, b.body)
		return
	}
	v.open()
	v.chunk(b.first + b.rest)
	v.end()
}

// TestAnswersPassUntouched compares what the client received with what the
// backend sent: JSON and streams, with comments, id and retry lines, unknown
// events and every kind of line end.
func TestAnswersPassUntouched(t *testing.T) {
	t.Parallel()
	for _, b := range backendScripts {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			in := throughRequests[b.name]
			if stream := throughStreams[b.name]; stream != "" {
				for _, size := range []int{len(stream), 1000, 7} {
					back := stage(t, func(v *visit) {
						v.open()
						for s := stream; s != ""; {
							n := min(size, len(s))
							v.chunk(s[:n])
							s = s[n:]
						}
						v.end()
					})
					r := start(t, agentYAML(b.name, back.addr))
					got := r.post(in.path, fmt.Sprintf(in.body, true), "")
					if got.status != 200 || got.body != stream {
						t.Errorf("in pieces of %d: status %d, got\n%q, want\n%q", size, got.status, got.body, stream)
					}
					if line := r.waitLog(1); line["outcome"] != "completed" || line["passed_through"] != true {
						t.Errorf("logged %v", line)
					}
				}
			}
			if b.body == "" {
				return
			}
			back := stage(t, func(v *visit) { v.json(200, throughBody(b)) })
			r := start(t, agentYAML(b.name, back.addr))
			if got := r.post(in.path, fmt.Sprintf(in.body, false), ""); got.status != 200 || got.body != throughBody(b) {
				t.Errorf("status %d, got\n%q, want\n%q", got.status, got.body, throughBody(b))
			}
		})
	}
}

// TestConfigurationReachesEveryBackend asks a backend of every protocol, through
// its own face and through another one, and looks at what it received of an
// agent's model, defaults and headers.
func TestConfigurationReachesEveryBackend(t *testing.T) {
	t.Parallel()
	const configured = `, model: other, headers: {X-Team: blue}, forward_headers: [X-Tenant], defaults: {system_prompt: "Be kind.", max_tokens: 70, temperature: 0.25}`
	// Where each protocol has the thing, as a path of its request; "" where it has
	// no place for it, and "path" for the agent's id in the address.
	places := map[string]struct{ model, prompt, tokens, temperature string }{
		"chat":      {"model", "messages.0.content", "max_tokens", "temperature"},
		"responses": {"model", "instructions", "max_output_tokens", "temperature"},
		"cognipeer": {"model", "input", "", ""},
		"ticos":     {"path", "input", "", ""},
		"swarms":    {"agent_config.model_name", "agent_config.system_prompt", "agent_config.max_tokens", "agent_config.temperature"},
		"cycls":     {"", "messages.0.content", "", ""},
	}
	for _, b := range backendScripts {
		for _, f := range clientFaces {
			t.Run(f.name+" to "+b.name, func(t *testing.T) {
				t.Parallel()
				back := stage(t, func(v *visit) { v.answer(b) })
				r := start(t, "agents:\n  - {name: it, aliases: [\"*\"], protocol: "+b.name+", url: \"http://"+back.addr+"\", heartbeat: {stream: 0s}"+configured+"}\n")
				body, headers := f.ask("hello", b.body == "")
				got := r.post(f.path, body, headers+"X-Tenant: t-1\r\nX-Team: red\r\nX-Other: no\r\nAuthorization: Bearer mine\r\n")
				if got.status != 200 {
					t.Fatalf("status %d: %s", got.status, got.body)
				}
				v := <-back.seen
				at := places[b.name]
				has := func(what, path, want string) {
					t.Helper()
					switch {
					case path == "path":
						if !strings.Contains(v.req.URL.Path, "/"+want+"/") {
							t.Errorf("%s: the path is %s", what, v.req.URL.Path)
						}
					case path != "":
						if got := gjson.GetBytes(v.body, path).String(); !strings.Contains(got, want) {
							t.Errorf("%s: %s is %q, want %q in %s", what, path, got, want, v.body)
						}
					default:
						if strings.Contains(string(v.body), want) {
							t.Errorf("%s: %q in %s", what, want, v.body)
						}
					}
				}
				has("model", at.model, "other")
				has("system_prompt", at.prompt, "Be kind.")
				has("max_tokens", at.tokens, "70")
				has("temperature", at.temperature, "0.25")
				if !strings.Contains(string(v.body), "hello") {
					t.Errorf("the question is lost: %s", v.body)
				}
				for name, want := range map[string]string{"X-Team": "blue", "X-Tenant": "t-1", "X-Other": "", "Authorization": ""} {
					if got := strings.Join(v.req.Header[http.CanonicalHeaderKey(name)], "|"); got != want {
						t.Errorf("%s: got %q, want %q", name, got, want)
					}
				}

				// What the client says itself wins.
				if f.name == "chat" {
					body := `{"model":"it","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"hello"}],"max_tokens":99,"temperature":0.75,"stream":` + boolText(b.body == "") + `}`
					if got := r.post(f.path, body, ""); got.status != 200 {
						t.Fatalf("status %d: %s", got.status, got.body)
					}
					v = <-back.seen
					has("max_tokens", at.tokens, "99")
					has("temperature", at.temperature, "0.75")
					if !strings.Contains(string(v.body), "Be brief.") || strings.Contains(string(v.body), "Be kind.") {
						t.Errorf("the default stands beside the client's own word: %s", v.body)
					}
				}
			})
		}
	}
}
