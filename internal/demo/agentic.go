package demo

import (
	"fmt"
	"strings"
	"time"

	"github.com/tidwall/gjson"
)

// serveSwarms speaks the Swarms API: one task for one configured agent.
func serveSwarms(x *exchange) {
	c := x.doc.Get("agent_config")
	if !c.IsObject() {
		x.json(422, `{"detail":[{"loc":["body","agent_config"],"msg":"Field required","type":"missing"}]}`)
		return
	}
	q := question{text: x.doc.Get("task").String(), model: c.Get("model_name").String(), tool: offers(c.Get("tools_list_dictionary"))}
	q.stream = c.Get("streaming_on").Bool() || x.doc.Get("stream").Bool()
	x.doc.Get("history").ForEach(func(_, m gjson.Result) bool {
		if m.Get("role").String() == "user" {
			q.before = append(q.before, m.Get("content").String())
		}
		return true
	})
	// There is no place for a tool's result but the task and the history: the
	// question about the weather is answered when the task speaks of a result.
	if i := strings.Index(q.text, "result"); i >= 0 {
		q.tool = false
	}
	if x.refused(q) {
		return
	}
	name := c.Get("agent_name").String()
	if name == "" {
		name = "Demo Agent"
	}
	pieces := answer(q)
	job, in, out := newID("agent-demo"), tokens(x.doc.Raw), 0
	calls, failure := "", ""
	for i := range pieces {
		out += tokens(pieces[i].text)
		switch p := &pieces[i]; p.kind {
		case call:
			calls = fmt.Sprintf(`[{"function":{"arguments":%s,"name":%s},"id":%s,"type":"function"}]`, quote(p.text), quote(p.name), quote(newID("call_demo")))
		case broken:
			failure = p.text
		}
	}
	usage := fmt.Sprintf(`{"input_tokens":%d,"output_tokens":%d,"total_tokens":%d,"img_cost":0.0,"total_cost":0.0}`, in, out, in+out)
	naive := func() string { return time.Now().UTC().Format("2006-01-02T15:04:05.000000") }
	stamp := func() string { return naive() + "+00:00" }
	head := fmt.Sprintf(`"job_id":%s,"success":true,"name":%s,"description":"A demo agent","temperature":null`, quote(job), quote(name))
	if q.stream {
		x.stream(func() {
			x.frame("", "{"+head+`,"timestamp":`+quote(stamp())+`,"stream":true,"type":"metadata"}`)
			x.frame("start", `{"message": "Starting agent processing..."}`)
			for i := range pieces {
				p := &pieces[i]
				if p.kind == broken {
					x.frame("error", `{"error": `+quote("AgentCompletionError: "+p.text)+`, "timestamp": `+quote(stamp())+`}`)
					return
				}
				content := ""
				if p.kind == call {
					x.frame("chunk", `{"content": `+calls+`, "timestamp": `+quote(stamp())+`}`)
					continue
				}
				content = p.plain()
				for _, w := range words(content) {
					if w != "" {
						x.frame("chunk", `{"content": `+quote(w)+`, "timestamp": `+quote(stamp())+`}`)
					}
				}
			}
			x.frame("usage", usage)
			x.frame("end", `{"job_id": `+quote(job)+`, "usage": `+usage+`, "timestamp": `+quote(stamp())+`, "complete": true}`)
			x.frame("done", `{"message": "Agent processing complete"}`)
		})
		return
	}
	if failure != "" {
		x.json(500, `{"detail":`+quote(failure)+`}`)
		return
	}
	entry := func(content string) string {
		return fmt.Sprintf(`{"role":%s,"content":%s,"timestamp":%s,"message_id":"85b70f9d-e281-4a98-b9ad-5a2d39f8ffcb"}`, quote(name), content, quote(naive()))
	}
	outputs := entry(quote(said(pieces)))
	if calls != "" {
		outputs += "," + entry(calls)
	}
	x.json(200, "{"+head+`,"outputs":[`+outputs+`],"usage":`+usage+`,"timestamp":`+quote(stamp())+"}")
}

// serveCycls speaks the Cycls protocol as its current server does: whatever is
// asked, the answer is a stream of components, and a failure is a callout.
func serveCycls(x *exchange) {
	if !x.doc.Get("messages").IsArray() {
		x.ctx.SetStatusCode(500)
		x.ctx.SetContentType("text/plain; charset=utf-8")
		x.ctx.SetBodyString("Internal Server Error")
		return
	}
	q := readChat(x.doc)
	q.tool, q.result = false, ""
	if x.refused(q) {
		return
	}
	pieces := answer(q)
	x.stream(func() {
		x.frame("", `{"type": "chat_id", "chat_id": `+quote(newID("3b88a467-1b98-4f24-8294-"))+`}`)
		for i := range pieces {
			x.component(&pieces[i])
		}
		x.frame("", "[DONE]")
	})
}

// component writes a piece as the Cycls protocol has it.
func (x *exchange) component(p *piece) {
	switch p.kind {
	case thinking:
		for _, w := range words(p.text) {
			x.frame("", `{"type": "thinking", "thinking": `+quote(w)+`}`)
		}
	case text:
		for _, w := range words(p.text) {
			if w != "" {
				x.frame("", `{"type": "text", "text": `+quote(w)+`}`)
			}
		}
	case code:
		lang := `, "language": ` + quote(p.name)
		for _, l := range strings.SplitAfter(p.text, "\n") {
			if l != "" {
				x.frame("", `{"type": "code", "code": `+quote(l)+lang+`}`)
				lang = ""
			}
		}
	case table:
		x.frame("", `{"type": "table", "headers": `+list(p.headers)+`}`)
		for _, r := range p.rows {
			x.frame("", `{"type": "table", "row": `+list(r)+`}`)
		}
	case callout:
		x.frame("", `{"type": "callout", "callout": `+quote(p.text)+`, "style": `+quote(p.style)+`, "title": `+quote(p.title)+`}`)
	case image:
		x.frame("", `{"type": "image", "src": `+quote(p.text)+`, "alt": `+quote(p.title)+`}`)
	case status:
		x.frame("", `{"type": "status", "status": `+quote(p.text)+`}`)
	case step:
		id := quote(newID("step_demo"))
		x.frame("", `{"type": "step", "step": `+quote(p.name)+`, "tool_name": `+quote(p.name)+`, "id": `+id+`}`)
		x.frame("", `{"type": "step_arg", "id": `+id+`, "delta": `+quote(p.text)+`}`)
		x.frame("", `{"type": "step", "id": `+id+`, "ok": true, "result": `+quote(p.result)+`}`)
	case broken:
		id := newID("")
		x.frame("", `{"type": "callout", "callout": `+quote("Something went wrong. Reference: `"+id+"`")+`, "style": "error", "error_id": `+quote(id)+`}`)
	}
}

func list(words []string) string {
	var s strings.Builder
	s.WriteString("[")
	for i, w := range words {
		if i > 0 {
			s.WriteString(", ")
		}
		s.WriteString(quote(w))
	}
	return s.String() + "]"
}
