package demo

import (
	"fmt"
	"strconv"
	"strings"
)

// serveResponses speaks the Responses API as OpenAI's server does.
func serveResponses(x *exchange) {
	q := readResponses(x.doc)
	if x.refused(q) {
		return
	}
	r := &responsesAnswer{x: x, id: newID("resp_demo"), model: q.model, in: tokens(x.doc.Raw), store: x.doc.Get("store").Raw != "false"}
	var pieces []piece
	pieces, r.short = cut(answer(q), q.limit)
	if !q.stream {
		r.run(pieces)
		if r.failure != "" {
			x.json(500, `{"error":{"message":`+quote(r.failure)+`,"type":"server_error","param":null,"code":"server_error"}}`)
			return
		}
		x.json(200, r.response(r.status(), "null"))
		return
	}
	r.streams = true
	x.stream(func() { r.run(pieces) })
}

// responsesAnswer builds the items of an answer and, if it streams, tells them
// as events.
type responsesAnswer struct {
	x       *exchange
	id      string
	model   string
	in, out int
	store   bool
	streams bool
	seq     int
	items   []string
	failure string
	short   bool // the limit of tokens cut it off
}

// status is how an answer that did not fail ends.
func (r *responsesAnswer) status() string {
	if r.short {
		return "incomplete"
	}
	return "completed"
}

func (r *responsesAnswer) event(name, fields string) {
	if !r.streams {
		return
	}
	r.x.frame(name, `{"type":"`+name+`","sequence_number":`+strconv.Itoa(r.seq)+fields+`}`)
	r.seq++
}

func (r *responsesAnswer) response(status, failure string) string {
	usage, done, details := "null", "null", "null"
	if status == "incomplete" {
		details = `{"reason":"max_output_tokens"}`
	}
	if status == "completed" || status == "incomplete" {
		usage = fmt.Sprintf(`{"input_tokens":%d,"input_tokens_details":{"cached_tokens":0},"output_tokens":%d,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":%d}`, r.in, r.out, r.in+r.out)
		done = "1767225601"
	}
	return fmt.Sprintf(`{"id":%s,"object":"response","created_at":1767225600,"completed_at":%s,"status":"%s","background":false,"error":%s,"incomplete_details":%s,"instructions":null,"max_output_tokens":null,"max_tool_calls":null,"model":%s,"output":[%s],"parallel_tool_calls":true,"previous_response_id":null,"prompt_cache_key":null,"reasoning":{"effort":null,"summary":null},"safety_identifier":null,"service_tier":"default","store":%t,"temperature":1.0,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_logprobs":0,"top_p":1.0,"presence_penalty":0.0,"frequency_penalty":0.0,"truncation":"disabled","usage":%s,"user":null,"metadata":{}}`,
		quote(r.id), done, status, failure, details, quote(r.model), strings.Join(r.items, ","), r.store, usage)
}

func (r *responsesAnswer) run(pieces []piece) {
	r.event("response.created", `,"response":`+r.response("in_progress", "null"))
	r.event("response.in_progress", `,"response":`+r.response("in_progress", "null"))
	message := ""
	flush := func() {
		if message != "" {
			r.message(message)
			message = ""
		}
	}
	for i := range pieces {
		p := &pieces[i]
		r.out += tokens(p.text)
		switch p.kind {
		case thinking:
			flush()
			r.reasoning(p.text)
		case call:
			flush()
			r.call(p)
		case broken:
			flush()
			r.failure = p.text
			failure := `{"code":"server_error","message":` + quote(p.text) + `}`
			r.event("error", `,"error":{"type":"server_error","code":"server_error","message":`+quote(p.text)+`,"param":null}`)
			r.event("response.failed", `,"response":`+r.response("failed", failure))
			return
		default:
			message += p.plain()
		}
	}
	flush()
	r.event("response."+r.status(), `,"response":`+r.response(r.status(), "null"))
}

// at is the place of the item that is being written.
func (r *responsesAnswer) at(id string) string {
	return `,"item_id":` + quote(id) + `,"output_index":` + strconv.Itoa(len(r.items))
}

func (r *responsesAnswer) added(item string) {
	r.event("response.output_item.added", `,"output_index":`+strconv.Itoa(len(r.items))+`,"item":`+item)
}

func (r *responsesAnswer) done(item string) {
	r.event("response.output_item.done", `,"output_index":`+strconv.Itoa(len(r.items))+`,"item":`+item)
	r.items = append(r.items, item)
}

func (r *responsesAnswer) message(s string) {
	id := newID("msg_demo")
	at := r.at(id) + `,"content_index":0`
	part := func(s string) string {
		return `{"type":"output_text","text":` + quote(s) + `,"annotations":[],"logprobs":[]}`
	}
	item := func(status, content string) string {
		return `{"id":` + quote(id) + `,"type":"message","status":"` + status + `","role":"assistant","content":[` + content + `]}`
	}
	r.added(item("in_progress", ""))
	r.event("response.content_part.added", at+`,"part":`+part(""))
	for _, w := range words(s) {
		if w != "" {
			r.event("response.output_text.delta", at+`,"delta":`+quote(w)+`,"logprobs":[]`)
		}
	}
	r.event("response.output_text.done", at+`,"text":`+quote(s)+`,"logprobs":[]`)
	r.event("response.content_part.done", at+`,"part":`+part(s))
	r.done(item("completed", part(s)))
}

func (r *responsesAnswer) reasoning(s string) {
	id := newID("rs_demo")
	at := r.at(id) + `,"summary_index":0`
	part := func(s string) string { return `{"type":"summary_text","text":` + quote(s) + `}` }
	r.added(`{"id":` + quote(id) + `,"type":"reasoning","summary":[]}`)
	r.event("response.reasoning_summary_part.added", at+`,"part":`+part(""))
	for _, w := range words(s) {
		r.event("response.reasoning_summary_text.delta", at+`,"delta":`+quote(w))
	}
	r.event("response.reasoning_summary_text.done", at+`,"text":`+quote(s))
	r.event("response.reasoning_summary_part.done", at+`,"part":`+part(s))
	r.done(`{"id":` + quote(id) + `,"type":"reasoning","summary":[` + part(s) + `]}`)
}

func (r *responsesAnswer) call(p *piece) {
	id, callID := newID("fc_demo"), newID("call_demo")
	item := func(args, status string) string {
		return `{"id":` + quote(id) + `,"type":"function_call","status":"` + status + `","arguments":` + quote(args) + `,"call_id":` + quote(callID) + `,"name":` + quote(p.name) + `}`
	}
	at := r.at(id)
	r.added(item("", "in_progress"))
	for _, w := range strings.SplitAfter(p.text, ",") {
		r.event("response.function_call_arguments.delta", at+`,"delta":`+quote(w))
	}
	r.event("response.function_call_arguments.done", at+`,"arguments":`+quote(p.text)+`,"name":`+quote(p.name))
	r.done(item(p.text, "completed"))
}
