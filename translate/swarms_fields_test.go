package translate

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// Every member of agent_config that any version of the vendor's schema has, and
// what becomes of it: it reaches a Chat backend, or the ledger has it. A Swarms
// backend gets it as it stands.
func TestSwarmsEveryFieldOfAgentConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ field, value, chat, want string }{
		{"agent_name", `"A"`, "", ""}, // says who is asked
		{"description", `"D"`, "", "agent_config.description"},
		{"system_prompt", `"Be kind."`, "messages.0.content", `"Be kind."`},
		{"marketplace_prompt_id", `"p"`, "", "agent_config.marketplace_prompt_id"},
		{"model_name", `"m"`, "model", `"m"`},
		{"auto_generate_prompt", `true`, "", "agent_config.auto_generate_prompt"},
		{"max_tokens", `9`, "max_tokens", "9"},
		{"temperature", `0.50`, "temperature", "0.50"},
		{"role", `"lead"`, "", "agent_config.role"},
		{"max_loops", `"auto"`, "", "agent_config.max_loops"},
		{"max_loops", `2`, "", "agent_config.max_loops"},
		{"tools_list_dictionary", `[{"type":"function","function":{"name":"f"}}]`, "tools.0.function.name", `"f"`},
		{"tools_dictionary", `[{"type":"function","function":{"name":"f"}}]`, "tools.0.function.name", `"f"`},
		{"selected_tools", `["create_plan"]`, "", "agent_config.selected_tools"},
		{"mcp_url", `"http://m"`, "", "agent_config.mcp_url"},
		{"mcp_config", `{"url":"http://m"}`, "", "agent_config.mcp_config"},
		{"mcp_configs", `{"connections":[{"url":"http://m"}]}`, "", "agent_config.mcp_configs"},
		{"llm_args", `{"top_p":0.9}`, "top_p", "0.9"},
		{"llm_args", `{"stop":["x"]}`, "stop", `["x"]`},
		{"llm_args", `{"seed":7}`, "seed", "7"},
		{"llm_args", `{"api_base":"b"}`, "", "agent_config.llm_args"},
		{"dynamic_temperature_enabled", `false`, "", "agent_config.dynamic_temperature_enabled"},
		{"tool_call_summary", `false`, "", "agent_config.tool_call_summary"},
		{"reasoning_effort", `"high"`, "reasoning_effort", `"high"`},
		{"thinking_tokens", `100`, "", "agent_config.thinking_tokens"},
		{"reasoning_enabled", `true`, "", "agent_config.reasoning_enabled"},
		{"publish_to_marketplace", `true`, "", "agent_config.publish_to_marketplace"},
		{"use_cases", `[{"title":"t"}]`, "", "agent_config.use_cases"},
		{"tags", `["t"]`, "", "agent_config.tags"},
		{"capabilities", `["c"]`, "", "agent_config.capabilities"},
		{"category", `"c"`, "", "agent_config.category"},
		{"is_free", `false`, "", "agent_config.is_free"},
		{"price_usd", `1.5`, "", "agent_config.price_usd"},
		{"handoffs", `[{"agent_name":"B"}]`, "", "agent_config.handoffs"},
		{"made_up", `1`, "", "unknown(1)"},
	} {
		t.Run(c.field+"="+c.value, func(t *testing.T) {
			t.Parallel()
			body := `{"agent_config":{"` + c.field + `":` + c.value + `},"task":"t"}`
			r := decodeSwarms(t, body)
			a := &Agent{Name: "support"}
			sent, err := Lookup("chat").Encode(nil, r, a, false)
			if err != nil {
				t.Fatal(err)
			}
			ledger := r.Ledger.Header()
			switch {
			case c.chat != "":
				if got := gjson.GetBytes(sent, c.chat).Raw; got != c.want || ledger != "" {
					t.Errorf("%s is %s, want %s, ledger %q: %s", c.chat, got, c.want, ledger, sent)
				}
			case ledger != c.want:
				t.Errorf("ledger: got %q, want %q", ledger, c.want)
			}
			spliced, err := swarmsProtocol.SpliceRequest(nil, decodeSwarms(t, body), a)
			if err != nil || string(spliced) != body {
				t.Errorf("to a Swarms backend: %s, %v", spliced, err)
			}
		})
	}
}

// What stands beside agent_config is carried or in the ledger too.
func TestSwarmsEveryFieldOfTheRequest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ fields, ledger string }{
		{`"tools_enabled":["auto_search"]`, "tools_enabled"},
		{`"search_enabled":true`, "search_enabled"},
		{`"stream":true`, ""},
		{`"img":null,"imgs":null,"history":null,"tools_enabled":[]`, ""},
		{`"img":"http://x","imgs":["http://y"]`, ""},
		{`"history":[{"role":"Writer","content":"a"}]`, "history[0].role"},
		{`"history":{"a":{"role":"user","content":"q"},"b":"text"}`, ""},
		{`"mine":1,"yours":2`, "unknown(2)"},
	} {
		r := decodeSwarms(t, `{"agent_config":{"agent_name":"A"},"task":"t",`+c.fields+`}`)
		sent, err := Lookup("chat").Encode(nil, r, &Agent{Name: "support"}, r.Stream)
		if err != nil {
			t.Errorf("%s: %v", c.fields, err)
			continue
		}
		if got := r.Ledger.Header(); got != c.ledger {
			t.Errorf("%s: ledger: got %q, want %q: %s", c.fields, got, c.ledger, sent)
		}
	}
}

// Bare base64 is told by its first bytes; what they do not tell is a JPEG, as the
// vendor has it.
func TestSwarmsImageTypes(t *testing.T) {
	t.Parallel()
	for magic, want := range map[string]string{
		"\x89PNG\r\n\x1a\n": "image/png", "\xff\xd8\xff\xe0": "image/jpeg", "GIF87a": "image/gif", "GIF89a": "image/gif",
		"RIFF\x10\x20\x30\x40WEBPVP8 ": "image/webp", "RIFF\x10\x20\x30\x40WAVEfmt ": "image/jpeg", "BM\x01\x02": "image/bmp",
		"II*\x00": "image/tiff", "MM\x00*": "image/tiff", "\x00\x00\x00\x20ftypavif": "image/avif", "\x00\x00\x00\x18ftypheic": "image/heic", "who knows": "image/jpeg",
	} {
		b64 := base64.StdEncoding.EncodeToString([]byte(magic + "and what follows"))
		if got := swarmsImageURL(b64); got != "data:"+want+";base64,"+b64 {
			t.Errorf("%q: got %s, want %s", magic, got, want)
		}
		// MIME encoders break lines.
		if got := swarmsImageURL(b64[:4] + "\r\n" + b64[4:] + "\n"); got != "data:"+want+";base64,"+b64 {
			t.Errorf("%q in lines: got %s", magic, got)
		}
	}
	for _, url := range []string{"http://x/a.png", "HTTPS://x", "data:image/png;base64,AA==", "data:,x"} {
		if got := swarmsImageURL(url); got != url {
			t.Errorf("%s: got %s", url, got)
		}
	}
	for _, no := range []string{"", "short", "/etc/passwd", "C:\\a.png", "file:///a", "a b c!"} {
		if got := swarmsImageURL(no); got != "" {
			t.Errorf("%s: got %s", no, got)
		}
	}
}

// A status in the words of a 500 counts, and nobody is invited to try again.
func TestSwarmsInnerStatus(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status, want int
		detail       string
		message      string
	}{
		{500, 400, "400: Agent name is required", "Agent name is required"},
		{500, 429, "429: Rate limit exceeded. Please try again later.", "Rate limit exceeded. Please try again later."},
		{500, 502, "401: Invalid API Key", "The proxy's credential for the agent was refused; this is for the operator to mend."},
		{500, 400, "500: 400: twice", "twice"},
		{500, 502, "200: no error", "The agent failed."},
		{500, 502, "4000: no status", "The agent failed."},
		{503, 503, "400: not under a 500", "The agent is not available now."},
		{400, 400, "402: not under a 500", "402: not under a 500"},
	} {
		body := ParseErrorBody("application/json", []byte(`{"detail":`+quote(c.detail)+`}`))
		e := BackendStatus(c.status, body, 0, false)
		if e.Status != c.want || e.Message != c.message || strings.HasPrefix(c.detail, "429") && !e.NoRetry {
			t.Errorf("%d %s: got %d %q, retry %t", c.status, c.detail, e.Status, e.Message, !e.NoRetry)
		}
	}
}

func TestPythonJSON(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want string }{
		{`[]`, `[]`},
		{` [ {'a': 1, "b": -2.5e3, 'c': None, 'd': True, 'e': False,}, ( 'x' , ) ] `, `[{"a":1,"b":-2.5e3,"c":null,"d":true,"e":false},["x"]]`},
		{`['it\'s', "say \"x\"", 'a\\b\n\t\r\x41\u00fc\U0001f600']`, `["it's","say \"x\"","a\\b\n\t\rAü😀"]`},
		{`[Call(id='c', function=Function(name='f', arguments='{}'))]`, `[{"id":"c","function":{"name":"f","arguments":"{}"}}]`},
		{`[mod.Thing()]`, `[{}]`},
	} {
		if got, ok := pythonJSON(c.in); !ok || string(got) != c.want {
			t.Errorf("%s: got %s %t, want %s", c.in, got, ok, c.want)
		}
	}
	for _, in := range []string{"", "[", "['a'", `['\q']`, `['\x4']`, "[1 2]", "{'a'}", "{1: 2}", "[<object at 0x1>]", "word", "[a]", "[a(1)]", "['a'] b", strings.Repeat("[", 40) + strings.Repeat("]", 40)} {
		if got, ok := pythonJSON(in); ok {
			t.Errorf("%s: got %s", in, got)
		}
	}
}
