package demo

import (
	"fmt"
	"strings"

	"github.com/tidwall/gjson"
)

// serveChat speaks Chat Completions as OpenAI's server does.
func serveChat(x *exchange) {
	q := readChat(x.doc)
	if x.refused(q) {
		return
	}
	pieces, short := cut(answer(q), q.limit)
	usage := x.doc.Get("stream_options.include_usage").Bool()
	id, in := newID("chatcmpl-demo"), tokens(x.doc.Raw)
	if !q.stream {
		x.json(chatBody(pieces, short, id, q.model, in))
		return
	}
	x.stream(func() {
		tail := ""
		if usage {
			tail = `,"usage":null`
		}
		chunk := func(delta, finish string) {
			x.frame("", fmt.Sprintf(`{"id":%s,"object":"chat.completion.chunk","created":1767225600,"model":%s,"system_fingerprint":null,"choices":[{"index":0,"delta":%s,"logprobs":null,"finish_reason":%s}]%s}`,
				quote(id), quote(q.model), delta, finish, tail))
		}
		chunk(`{"role":"assistant","content":"","refusal":null}`, "null")
		finish, out, calls := "stop", 0, 0
		if short {
			finish = "length"
		}
		for i := range pieces {
			p := &pieces[i]
			switch p.kind {
			case broken:
				x.frame("", `{"error":{"message":`+quote(p.text)+`,"type":"server_error","param":null,"code":"server_error"}}`)
				x.frame("", "[DONE]")
				return
			case thinking:
				for _, w := range words(p.text) {
					chunk(`{"reasoning_content":`+quote(w)+`}`, "null")
				}
			case call:
				finish = "tool_calls"
				chunk(fmt.Sprintf(`{"tool_calls":[{"index":%d,"id":%s,"type":"function","function":{"name":%s,"arguments":""}}]}`, calls, quote(newID("call_demo")), quote(p.name)), "null")
				for _, w := range strings.SplitAfter(p.text, ",") {
					chunk(fmt.Sprintf(`{"tool_calls":[{"index":%d,"function":{"arguments":%s}}]}`, calls, quote(w)), "null")
				}
				calls++
			default:
				for _, w := range words(p.plain()) {
					if w != "" {
						chunk(`{"content":`+quote(w)+`}`, "null")
					}
				}
			}
			out += tokens(p.text)
		}
		chunk(`{}`, quote(finish))
		if usage {
			x.frame("", fmt.Sprintf(`{"id":%s,"object":"chat.completion.chunk","created":1767225600,"model":%s,"choices":[],"usage":%s}`, quote(id), quote(q.model), chatUsage(in, out)))
		}
		x.frame("", "[DONE]")
	})
}

func chatUsage(in, out int) string {
	return fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}`, in, out, in+out)
}

// chatBody is a whole chat completion, or an error for an agent that fails.
func chatBody(pieces []piece, short bool, id, model string, in int) (int, string) {
	content, finish, calls, reasoning, out := said(pieces), "stop", "", "", 0
	if short {
		finish = "length"
	}
	for i := range pieces {
		p := &pieces[i]
		out += tokens(p.text)
		switch p.kind {
		case broken:
			return 500, `{"error":{"message":` + quote(p.text) + `,"type":"server_error","param":null,"code":"server_error"}}`
		case thinking:
			reasoning += p.text
		case call:
			finish = "tool_calls"
			calls += fmt.Sprintf(`{"id":%s,"type":"function","function":{"name":%s,"arguments":%s}}`, quote(newID("call_demo")), quote(p.name), quote(p.text))
		}
	}
	message := `{"role":"assistant","content":` + quote(content) + `,"refusal":null`
	if reasoning != "" {
		message += `,"reasoning_content":` + quote(reasoning)
	}
	if calls != "" {
		message += `,"tool_calls":[` + calls + `]`
	}
	return 200, fmt.Sprintf(`{"id":%s,"object":"chat.completion","created":1767225600,"model":%s,"choices":[{"index":0,"message":%s},"logprobs":null,"finish_reason":%s}],"usage":%s}`,
		quote(id), quote(model), message, quote(finish), chatUsage(in, out))
}

// serveTicos speaks Ticos' dialect: the Responses path, a chat completion as the
// answer, and no stream.
func serveTicos(x *exchange) {
	q := question{text: x.doc.Get("input").String()}
	if in := x.doc.Get("input"); in.IsArray() {
		q.text = flatten(in)
	}
	if x.refused(q) {
		return
	}
	status, body := chatBody(answer(q), false, newID("chatcmpl-demo"), "demo-ticos", tokens(q.text))
	x.json(status, body)
}

// readResponses reads the input of the Responses API.
func readResponses(doc gjson.Result) question {
	q := question{stream: doc.Get("stream").Bool(), model: doc.Get("model").String(), tool: offers(doc.Get("tools")), limit: doc.Get("max_output_tokens").Int()}
	in := doc.Get("input")
	if in.Type == gjson.String {
		q.text = in.String()
		return q
	}
	in.ForEach(func(_, item gjson.Result) bool {
		switch {
		case item.Get("type").String() == "function_call_output":
			q.hears(flatten(item.Get("output")), true)
		case item.Get("role").String() == "user":
			q.hears(flatten(item.Get("content")), false)
		}
		return true
	})
	return q
}

// serveCognipeer speaks Cognipeer's dialect, whose server reads the last user
// text alone and never streams.
func serveCognipeer(x *exchange) {
	if x.doc.Get("model").Type != gjson.String {
		x.json(400, `{"error":"model field is required and must contain the agent key"}`)
		return
	}
	q := readResponses(x.doc)
	q.tool, q.result = false, ""
	if q.text == "" {
		x.json(400, `{"error":"input field is required (string or array of message items)"}`)
		return
	}
	if x.refused(q) {
		return
	}
	pieces := answer(q)
	output := ""
	for i := range pieces {
		switch p := &pieces[i]; p.kind {
		case broken:
			x.json(500, `{"error":"Internal server error"}`)
			return
		case thinking:
			output = fmt.Sprintf(`{"id":%s,"type":"reasoning","summary":[{"type":"summary_text","text":%s}]},`, quote(newID("rs_demo")), quote(p.text))
		}
	}
	output += fmt.Sprintf(`{"id":%s,"type":"message","role":"assistant","content":[{"type":"output_text","text":%s}]}`, quote(newID("msg_demo")), quote(said(pieces)))
	x.json(200, fmt.Sprintf(`{"id":%s,"object":"response","model":"Demo Agent","output":[%s],"status":"completed","usage":{"input_tokens":0,"output_tokens":0,"total_tokens":0},"created_at":1767225600,"previous_response_id":null,"version":1}`,
		quote(newID("resp_demo")), output))
}
