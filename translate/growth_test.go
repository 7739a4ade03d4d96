package translate

import (
	"fmt"
	"strings"
	"testing"
)

// manyOf are requests that have n of something, for each way in which a request
// may have many.
var manyOf = []struct {
	face, name string
	body       func(n int) string
}{
	{"chat", "messages", func(n int) string {
		return `{"model":"m","messages":[` + times(n, `{"role":"user","content":"a"},{"role":"assistant","content":"b"}`) + `]}`
	}},
	{"chat", "system messages", func(n int) string {
		return `{"model":"m","messages":[` + times(n, `{"role":"system","content":"a"}`) + `,{"role":"user","content":"a"}]}`
	}},
	{"chat", "names", func(n int) string {
		return `{"model":"m","messages":[` + times(n, `{"role":"user","name":"n%d","content":"a","x%[1]d":1}`) + `]}`
	}},
	{"chat", "calls and results", func(n int) string {
		return `{"model":"m","messages":[` + times(n, `{"role":"assistant","content":null,"tool_calls":[{"id":"c%d","type":"function","function":{"name":"f%[1]d","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c%[1]d","content":"r"}`) + `,{"role":"user","content":"a"}]}`
	}},
	{"chat", "calls of one message, then results", func(n int) string {
		return `{"model":"m","messages":[{"role":"assistant","content":null,"tool_calls":[` + times(n, `{"id":"c%d","type":"function","function":{"name":"f","arguments":"{}"}}`) + `]},` +
			times(n, `{"role":"tool","tool_call_id":"c%d","content":"r"}`) + `,{"role":"user","content":"a"}]}`
	}},
	{"chat", "results of one call", func(n int) string {
		return `{"model":"m","messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},` +
			times(n, `{"role":"tool","tool_call_id":"c","content":"r"}`) + `,{"role":"user","content":"a"}]}`
	}},
	{"chat", "results without a call", func(n int) string {
		return `{"model":"m","messages":[` + times(n, `{"role":"assistant","content":"a"},{"role":"tool","tool_call_id":"c","content":"r"}`) + `,{"role":"user","content":"a"}]}`
	}},
	{"chat", "old calls and results", func(n int) string {
		return `{"model":"m","messages":[` + times(n, `{"role":"assistant","content":null,"function_call":{"name":"f%d","arguments":"{}"}}`) + `,` + times(n, `{"role":"function","name":"f%d","content":"r"}`) + `,{"role":"user","content":"a"}]}`
	}},
	{"chat", "parts", func(n int) string {
		return `{"model":"m","messages":[{"role":"user","content":[` + times(n, `{"type":"text","text":"a"}`) + `]}]}`
	}},
	{"chat", "images", func(n int) string {
		return `{"model":"m","messages":[{"role":"user","content":[` + times(n, `{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"https://e.com/%d.png","detail":"high"}}`) + `]}]}`
	}},
	{"chat", "parts of a result", func(n int) string {
		return `{"model":"m","messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c","content":[` + times(n, `{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"https://e.com/%d.png"}}`) + `]},{"role":"user","content":"a"}]}`
	}},
	{"chat", "citations", func(n int) string {
		return `{"model":"m","messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","annotations":[` + times(n, `{"type":"url_citation","url_citation":{"url":"u%d","title":"t","start_index":0,"end_index":1}}`) + `]},{"role":"user","content":"a"}]}`
	}},
	{"chat", "tools", func(n int) string {
		return `{"model":"m","messages":[{"role":"user","content":"a"}],"tools":[` + times(n, `{"type":"function","function":{"name":"f%d","parameters":{"type":"object","properties":{}},"x":1}}`) + `]}`
	}},
	{"chat", "custom tools", func(n int) string {
		return `{"model":"m","messages":[{"role":"user","content":"a"}],"tools":[` + times(n, `{"type":"custom","custom":{"name":"f%d"}}`) + `]}`
	}},
	{"chat", "allowed tools", func(n int) string {
		return `{"model":"m","messages":[{"role":"user","content":"a"}],"tools":[` + times(n, `{"type":"function","function":{"name":"f%d"}}`) + `],"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[` + times(n, `{"type":"function","function":{"name":"f%d"}}`) + `]}}}`
	}},
	{"chat", "properties of a schema", func(n int) string {
		return `{"model":"m","messages":[{"role":"user","content":"a"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","additionalProperties":false,"properties":{` + times(n, `"p%d":{"type":"string"}`) + `},"required":[` + times(n, `"p%d"`) + `]}}}]}`
	}},
	{"chat", "stops", func(n int) string {
		return `{"model":"m","messages":[{"role":"user","content":"a"}],"stop":[` + times(n, `"s%d"`) + `]}`
	}},
	{"chat", "unknown members", func(n int) string {
		return `{"model":"m","messages":[{"role":"user","content":"a"}],` + times(n, `"x%d":1`) + `}`
	}},
	{"responses", "messages", func(n int) string {
		return `{"model":"m","input":[` + times(n, `{"role":"user","content":"a"},{"role":"assistant","content":"b"}`) + `]}`
	}},
	{"responses", "reasoning", func(n int) string {
		return `{"model":"m","input":[` + times(n, `{"type":"reasoning","id":"r%d","summary":[{"type":"summary_text","text":"a"}]}`) + `,{"role":"user","content":"a"}]}`
	}},
	{"responses", "calls, then results", func(n int) string {
		return `{"model":"m","input":[` + times(n, `{"type":"function_call","call_id":"c%d","name":"f","arguments":"{}"}`) + `,` + times(n, `{"type":"function_call_output","call_id":"c%d","output":"r"}`) + `,{"role":"user","content":"a"}]}`
	}},
	{"responses", "results of one call", func(n int) string {
		return `{"model":"m","input":[{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},` + times(n, `{"type":"function_call_output","call_id":"c","output":"r"}`) + `,{"role":"user","content":"a"}]}`
	}},
	{"responses", "parts", func(n int) string {
		return `{"model":"m","input":[{"role":"user","content":[` + times(n, `{"type":"input_text","text":"a"},{"type":"input_image","image_url":"https://e.com/%d.png"}`) + `]}]}`
	}},
	{"responses", "items that a server ran", func(n int) string {
		return `{"model":"m","input":[` + times(n, `{"type":"web_search_call","id":"w%d","action":{"query":"q"}}`) + `,{"role":"user","content":"a"}]}`
	}},
	{"responses", "includes", func(n int) string {
		return `{"model":"m","input":"a","include":[` + times(n, `"x%d"`) + `]}`
	}},
	{"responses", "tools", func(n int) string {
		return `{"model":"m","input":"a","tools":[` + times(n, `{"type":"function","name":"f%d","parameters":{"type":"object","properties":{}}}`) + `]}`
	}},
	{"responses", "allowed tools", func(n int) string {
		return `{"model":"m","input":"a","tools":[` + times(n, `{"type":"function","name":"f%d"}`) + `],"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[` + times(n, `{"type":"function","name":"f%d"}`) + `]}}`
	}},
	{"cognipeer", "messages", func(n int) string {
		return `{"model":"m","input":[` + times(n, `{"role":"user","content":"a"},{"role":"assistant","content":"b"}`) + `]}`
	}},
	{"ticos", "parts", func(n int) string { return `{"input":[` + times(n, `{"type":"text","text":"a"}`) + `]}` }},
	{"ticos", "messages", func(n int) string {
		return `{"input":[` + times(n, `{"role":"user","content":"a"},{"role":"assistant","content":"b"}`) + `]}`
	}},
	{"swarms", "history", func(n int) string {
		return `{"agent_config":{"agent_name":"m"},"task":"a","history":[` + times(n, `{"role":"user","content":"a"},{"role":"it","content":"b"}`) + `]}`
	}},
	{"swarms", "history as an object", func(n int) string {
		return `{"agent_config":{"agent_name":"m"},"task":"a","history":{` + times(n, `"k%d":"a"`) + `}}`
	}},
	{"swarms", "calls, then results", func(n int) string {
		return `{"agent_config":{"agent_name":"m"},"task":"a","history":[` + times(n, `{"role":"it","content":[{"function":{"arguments":"{}","name":"f"},"id":"c%d","type":"function"}]}`) + `,` + times(n, `{"role":"tool","content":"r","tool_call_id":"c%d"}`) + `]}`
	}},
	{"swarms", "results without ids", func(n int) string {
		return `{"agent_config":{"agent_name":"m"},"task":"a","history":[{"role":"it","content":[` + times(n, `{"function":{"arguments":"{}","name":"f"},"id":"c%d","type":"function"}`) + `]},` + times(n, `{"role":"tool","content":"r"}`) + `]}`
	}},
	{"swarms", "images", func(n int) string {
		return `{"agent_config":{"agent_name":"m"},"task":"a","imgs":[` + times(n, `"https://e.com/%d.png"`) + `]}`
	}},
	{"swarms", "tools", func(n int) string {
		return `{"agent_config":{"agent_name":"m","tools_list_dictionary":[` + times(n, `{"type":"function","function":{"name":"f%d"}}`) + `]},"task":"a"}`
	}},
	{"swarms", "arguments", func(n int) string {
		return `{"agent_config":{"agent_name":"m","llm_args":{` + times(n, `"x%d":1`) + `}},"task":"a"}`
	}},
	{"swarms", "members", func(n int) string {
		return `{"agent_config":{"agent_name":"m",` + times(n, `"x%d":1`) + `},"task":"a"}`
	}},
	{"cycls", "messages", func(n int) string {
		return `{"messages":[` + times(n, `{"role":"user","content":"a"},{"role":"assistant","parts":[{"type":"text","text":"b"}]}`) + `]}`
	}},
	{"cycls", "parts", func(n int) string {
		return `{"messages":[{"role":"user","content":"a"},{"role":"assistant","parts":[` + times(n, `{"type":"text","text":"b"},{"type":"code","code":"c"},{"type":"status","status":"s"}`) + `]},{"role":"user","content":"a"}]}`
	}},
	{"cycls", "attachments", func(n int) string {
		return `{"messages":[{"role":"user","content":[` + times(n, `{"type":"image","image":"https://e.com/%d.png"}`) + `],"attachments":[` + times(n, `{"name":"a","url":"https://e.com/%d.png"},{"name":"b","url":"https://e.com/other%[1]d.png"}`) + `]}]}`
	}},
	{"cycls", "calls, then results", func(n int) string {
		return `{"messages":[{"role":"user","content":"a"},{"role":"assistant","parts":[` + times(n, `{"type":"tool_call","tool":"f","args":{},"id":"c%d"}`) + `]},` + times(n, `{"role":"tool","tool_call_id":"c%d","content":"r"}`) + `,{"role":"user","content":"a"}]}`
	}},
	{"cycls", "rows", func(n int) string {
		return `{"messages":[{"role":"user","content":"a"},{"role":"assistant","parts":[{"type":"table","headers":["A"],"rows":[` + times(n, `["%d"]`) + `]}]},{"role":"user","content":"a"}]}`
	}},
	{"cycls", "headers", func(n int) string {
		return `{"messages":[{"role":"user","content":"a"},{"role":"assistant","parts":[{"type":"table","headers":[` + times(n, `"%d"`) + `],"rows":[["1"],["2"],["3"]]}]},{"role":"user","content":"a"}]}`
	}},
}

// times joins n copies of s, each with its number, with commas.
func times(n int, s string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		if strings.Contains(s, "%") {
			fmt.Fprintf(&b, s, i)
		} else {
			b.WriteString(s)
		}
	}
	return b.String()
}

// TestCostGrowsInProportion doubles what a request has many of: what is allocated
// to translate it, for each backend, no more than doubles too, but for what growing
// slices leave behind.
func TestCostGrowsInProportion(t *testing.T) { //nolint:paralleltest // it counts what the process allocates
	for _, c := range manyOf {
		face := Lookup(c.face)
		for _, back := range registry {
			ask := func(n int) uint64 {
				body := c.body(n)
				return allocates(func() { askFull(face, back, Inbound{ID: "m"}, body, coverageAgent) })
			}
			few, many := ask(700), ask(1400)
			if many > 3*few+64<<10 {
				t.Errorf("%s, %s to %s: %d KiB, twice as many: %d KiB", c.face, c.name, back.Name, few>>10, many>>10)
			}
		}
	}
}

// TestLargestRequestsStaySmall makes bodies of 4 MiB out of the smallest things
// that a request may have many of. Each is either translated or refused as too
// much, and takes a small multiple of its size and what the largest number of
// things takes.
func TestLargestRequestsStaySmall(t *testing.T) { //nolint:paralleltest // it counts what the process allocates
	const size = 4 << 20
	list := func(before, item, after string) string {
		n := (size - len(before) - len(after)) / (len(item) + 1)
		return before + strings.Repeat(item+",", n-1) + item + after
	}
	for _, c := range []struct {
		face, body, refused string
	}{
		{"chat", list(`{"model":"m","messages":[`, `{"role":"user","content":""}`, `]}`), "messages"},
		{"chat", list(`{"model":"m","messages":[{"role":"user","content":[`, `{"type":"text","text":""}`, `]}]}`), "messages[0].content"},
		{"chat", list(`{"model":"m","messages":[{"role":"assistant","content":"","tool_calls":[`, `{"id":"c","function":{"name":"f"}}`, `]}]}`), "messages[0].tool_calls"},
		{"chat", list(`{"model":"m","messages":[{"role":"assistant","content":"a","annotations":[`, `{"url":"u"}`, `]}]}`), "messages[0].annotations"},
		{"chat", list(`{"model":"m","messages":[{"role":"user","content":"a"}],"tools":[`, `{"type":"x"}`, `]}`), "tools"},
		{"chat", list(`{"model":"m","messages":[{"role":"user","content":"a"}],"functions":[`, `{"name":"f"}`, `]}`), "functions"},
		{"chat", list(`{"model":"m","messages":[{"role":"user","content":"a"}],"stop":[`, `""`, `]}`), ""},
		{"chat", list(`{"model":"m","messages":[{"role":"user","content":"a"}],"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[`, `{"type":"x"}`, `]}}}`), "tool_choice.allowed_tools.tools"},
		{"chat", `{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("a", size) + `"}]}`, ""},
		{"chat", `{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat(`\n`, size/2) + `"}]}`, ""},
		{"responses", list(`{"model":"m","input":[`, `{"role":"user","content":""}`, `]}`), "input"},
		{"responses", list(`{"model":"m","input":[{"role":"user","content":[`, `{"type":"text","text":""}`, `]}]}`), "input[0].content"},
		{"responses", list(`{"model":"m","input":[{"role":"assistant","content":[{"type":"text","text":"","annotations":[`, `{}`, `]}]}]}`), "input[0].content[0].annotations"},
		{"responses", list(`{"model":"m","input":[{"type":"reasoning","summary":[`, `{}`, `]}]}`), "input[0].summary"},
		{"responses", list(`{"model":"m","input":"a","include":[`, `""`, `]}`), "include"},
		{"responses", list(`{"model":"m","input":"a","tools":[`, `{"type":"x"}`, `]}`), "tools"},
		{"responses", list(`{"model":"m","input":"a","tool_choice":{"type":"allowed_tools","mode":"auto","tools":[`, `{"type":"x"}`, `]}}`), "tool_choice.tools"},
		{"cognipeer", list(`{"model":"m","input":[`, `{"role":"user","content":""}`, `]}`), "input"},
		{"ticos", list(`{"input":[`, `{"type":"text","text":""}`, `]}`), "input"},
		{"swarms", list(`{"agent_config":{},"task":"a","history":[`, `{"role":"u"}`, `]}`), "history"},
		{"swarms", list(`{"agent_config":{},"task":"a","history":[{"role":"it","content":[`, `{"function":{"name":"f"}}`, `]}]}`), "history[0].content"},
		{"swarms", list(`{"agent_config":{},"task":"a","imgs":[`, `""`, `]}`), "imgs"},
		{"swarms", list(`{"agent_config":{"tools_list_dictionary":[`, `{"name":"f"}`, `]},"task":"a"}`), "agent_config.tools_list_dictionary"},
		{"cycls", list(`{"messages":[`, `{"role":"user"}`, `]}`), "messages"},
		{"cycls", list(`{"messages":[{"role":"user","content":[`, `""`, `]}]}`), "messages[0].content"},
		{"cycls", list(`{"messages":[{"role":"assistant","parts":[{"type":"table","rows":[`, `1`, `]}]}]}`), "messages[0].parts[0].rows"},
		{"cycls", list(`{"messages":[{"role":"user","content":"a","attachments":[`, `1`, `]}]}`), "messages[0].attachments"},
	} {
		face := Lookup(c.face)
		for _, back := range registry {
			if face == back || back.Name != "cognipeer" && back.Name != "chat" && back.Name != "swarms" {
				continue // the others are made of the same pieces
			}
			var got asked
			used := allocates(func() { got = askFull(face, back, Inbound{ID: "m"}, c.body, coverageAgent) })
			if got.err != nil && c.refused != "" && (got.err.Code != "too_many_items" || got.err.Status != 400 || got.err.Param != c.refused) || got.err == nil && c.refused != "" {
				t.Errorf("%s, %.80s to %s: got %v, want too_many_items at %s", c.face, c.body, back.Name, got.err, c.refused)
			}
			if limit := uint64(10*size + 64<<20); used > limit {
				t.Errorf("%s, %.80s to %s: %d MiB for a body of 4 MiB", c.face, c.body, back.Name, used>>20)
			}
		}
	}
}
