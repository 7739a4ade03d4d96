package proxy

import (
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// face is how a test speaks to the proxy in a client's protocol.
type face struct {
	name string
	path string
	// ask makes a request with a user's text.
	ask func(text string, stream bool) (body, headers string)
	// text takes the text out of a JSON answer, or out of a whole stream.
	text func(body string, stream bool) string
	// whole reports whether a stream is complete and well ended.
	whole func(stream string) bool
	// failed reports whether a stream that had begun says that it failed, and
	// does not also say that it succeeded.
	failed func(stream string) bool
	// message takes the message out of an error body.
	message func(body string) string
}

func frames(stream string) (data []string, events []string) {
	for f := range strings.SplitSeq(strings.TrimSuffix(stream, "\n\n"), "\n\n") {
		ev, d := "", ""
		for l := range strings.SplitSeq(f, "\n") {
			if v, ok := strings.CutPrefix(l, "event: "); ok {
				ev = v
			}
			if v, ok := strings.CutPrefix(l, "data: "); ok {
				d = v
			}
		}
		if d != "" {
			data, events = append(data, d), append(events, ev)
		}
	}
	return data, events
}

func collect(stream, path string) string {
	s := ""
	data, _ := frames(stream)
	for _, d := range data {
		s += gjson.Get(d, path).String()
	}
	return s
}

func last(stream string, n int) string {
	data, _ := frames(stream)
	if len(data) < n {
		return ""
	}
	return data[len(data)-n]
}

func openAIMessage(body string) string { return gjson.Get(body, "error.message").String() }
func detail(body string) string        { return gjson.Get(body, "detail").String() }

func boolText(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

var chatText = func(body string, stream bool) string {
	if stream {
		return collect(body, "choices.0.delta.content")
	}
	return gjson.Get(body, "choices.0.message.content").String()
}

var chatWhole = func(s string) bool {
	return last(s, 1) == "[DONE]" && strings.Count(s, `"finish_reason":"`) == 1 && !strings.Contains(s, `"error":{`)
}

var chatFailed = func(s string) bool {
	return last(s, 1) == "[DONE]" && gjson.Get(last(s, 2), "error.message").String() != "" && !strings.Contains(s, `"finish_reason":"`)
}

var responsesText = func(body string, stream bool) string {
	if stream {
		s := ""
		data, _ := frames(body)
		for _, d := range data {
			if gjson.Get(d, "type").String() == "response.output_text.delta" {
				s += gjson.Get(d, "delta").String()
			}
		}
		return s
	}
	s := ""
	gjson.Get(body, "output").ForEach(func(_, item gjson.Result) bool {
		item.Get("content").ForEach(func(_, p gjson.Result) bool {
			if p.Get("type").String() == "output_text" {
				s += p.Get("text").String()
			}
			return true
		})
		return true
	})
	return s
}

var responsesWhole = func(s string) bool {
	_, events := frames(s)
	return strings.Count(s, "event: response.completed\n") == 1 && events[0] == "response.created" && !strings.Contains(s, "event: error\n")
}

var responsesFailed = func(s string) bool {
	data, events := frames(s)
	n := len(events)
	if last(s, 1) == "[DONE]" {
		n--
	}
	return n >= 2 && events[n-1] == "response.failed" && events[n-2] == "error" &&
		gjson.Get(data[n-2], "error.message").String() != "" && gjson.Get(data[n-1], "response.status").String() == "failed" &&
		!strings.Contains(s, "event: response.completed")
}

var clientFaces = []face{
	{
		name: "chat", path: "/v1/chat/completions",
		ask: func(text string, stream bool) (string, string) {
			return `{"model":"it","messages":[{"role":"user","content":"` + text + `"}],"stream":` + boolText(stream) + `}`, ""
		},
		text: chatText, whole: chatWhole, failed: chatFailed, message: openAIMessage,
	},
	{
		name: "responses", path: "/v1/responses",
		ask: func(text string, stream bool) (string, string) {
			return `{"model":"it","input":"` + text + `","stream":` + boolText(stream) + `}`, ""
		},
		text: responsesText, whole: responsesWhole, failed: responsesFailed, message: openAIMessage,
	},
	{
		name: "cognipeer", path: "/api/client/v1/agents/responses",
		ask: func(text string, stream bool) (string, string) {
			return `{"model":"it","input":"` + text + `","stream":` + boolText(stream) + `}`, ""
		},
		text: responsesText, whole: responsesWhole, failed: responsesFailed,
		message: func(body string) string {
			return gjson.Get(body, "error").String() + gjson.Get(body, "message").String() // 503 says more
		},
	},
	{
		name: "ticos", path: "/v1/agents/it/responses",
		ask: func(text string, stream bool) (string, string) {
			return `{"input":"` + text + `","stream":` + boolText(stream) + `}`, ""
		},
		text: chatText, whole: chatWhole, failed: chatFailed, message: openAIMessage,
	},
	{
		name: "swarms", path: "/v1/agent/completions",
		ask: func(text string, stream bool) (string, string) {
			return `{"agent_config":{"agent_name":"it","streaming_on":` + boolText(stream) + `},"task":"` + text + `"}`, ""
		},
		text: func(body string, stream bool) string {
			if !stream {
				s := ""
				gjson.Get(body, "outputs").ForEach(func(_, o gjson.Result) bool {
					if c := o.Get("content"); c.Type == gjson.String {
						s += c.String()
					}
					return true
				})
				return s
			}
			return collect(body, "content")
		},
		whole: func(s string) bool {
			_, events := frames(s)
			return events[len(events)-1] == "done" && !strings.Contains(s, "event: error\n")
		},
		failed: func(s string) bool {
			data, events := frames(s)
			n := len(events) - 1
			return events[n] == "error" && gjson.Get(data[n], "error").String() != "" && !strings.Contains(s, "event: done\n") && !strings.Contains(s, "event: end\n")
		},
		message: detail,
	},
	{
		name: "cycls", path: "/chat/cycls",
		ask: func(text string, stream bool) (string, string) {
			h := "Accept: text/event-stream\r\n"
			if !stream {
				h = "Accept: application/json\r\n"
			}
			return `{"messages":[{"role":"user","content":"` + text + `"}]}`, h
		},
		text: func(body string, stream bool) string {
			if stream {
				return collect(body, "text")
			}
			s := ""
			gjson.Get(body, "parts").ForEach(func(_, p gjson.Result) bool {
				s += p.Get("text").String()
				return true
			})
			return s
		},
		whole: func(s string) bool { return last(s, 1) == "[DONE]" && !strings.Contains(s, "error_id") },
		failed: func(s string) bool {
			return last(s, 1) == "[DONE]" && gjson.Get(last(s, 2), "error_id").String() != "" && gjson.Get(last(s, 2), "style").String() == "error"
		},
		message: detail,
	},
}

// script is how a backend of a protocol answers.
type script struct {
	name string
	// first says "one", rest says "two" and ends; nothing for a backend that
	// never streams.
	first, rest string
	// failure ends a stream that has begun, in the protocol's own words.
	failure string
	// body is a JSON answer that says "one two".
	body string
	// failedBody is an answer of status 200 that says it failed.
	failedBody string
	// refusal is an error body with a message.
	refusal func(message string) string
}

func openAIRefusal(m string) string {
	return `{"error":{"message":"` + m + `","type":"x","param":null,"code":null}}`
}

var backendScripts = []script{
	{
		name:  "chat",
		first: `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"one"},"finish_reason":null}]}` + "\n\n",
		rest: `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":" two"},"finish_reason":null}]}` + "\n\n" +
			`data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\ndata: [DONE]\n\n",
		failure:    `data: {"error":{"message":"it broke","type":"server_error","param":null,"code":null}}` + "\n\ndata: [DONE]\n\n",
		body:       `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"one two","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`,
		failedBody: openAIRefusal("it broke"),
		refusal:    openAIRefusal,
	},
	{
		name: "responses",
		first: sseEvent("response.created", `"sequence_number":0,"response":{"id":"resp_b","object":"response","created_at":1,"status":"in_progress","model":"m","output":[]}`) +
			sseEvent("response.output_item.added", `"sequence_number":1,"output_index":0,"item":{"type":"message","id":"msg_b","role":"assistant","status":"in_progress","content":[]}`) +
			sseEvent("response.content_part.added", `"sequence_number":2,"item_id":"msg_b","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}`) +
			sseEvent("response.output_text.delta", `"sequence_number":3,"item_id":"msg_b","output_index":0,"content_index":0,"delta":"one","logprobs":[]`),
		rest: sseEvent("response.output_text.delta", `"sequence_number":4,"item_id":"msg_b","output_index":0,"content_index":0,"delta":" two","logprobs":[]`) +
			sseEvent("response.output_text.done", `"sequence_number":5,"item_id":"msg_b","output_index":0,"content_index":0,"text":"one two","logprobs":[]`) +
			sseEvent("response.content_part.done", `"sequence_number":6,"item_id":"msg_b","output_index":0,"content_index":0,"part":{"type":"output_text","text":"one two","annotations":[],"logprobs":[]}`) +
			sseEvent("response.output_item.done", `"sequence_number":7,"output_index":0,"item":{"type":"message","id":"msg_b","role":"assistant","status":"completed","content":[{"type":"output_text","text":"one two","annotations":[],"logprobs":[]}]}`) +
			sseEvent("response.completed", `"sequence_number":8,"response":{"id":"resp_b","object":"response","created_at":1,"status":"completed","model":"m","output":[{"type":"message","id":"msg_b","role":"assistant","status":"completed","content":[{"type":"output_text","text":"one two","annotations":[],"logprobs":[]}]}],"usage":{"input_tokens":1,"input_tokens_details":{"cached_tokens":0},"output_tokens":2,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":3}}`),
		failure: sseEvent("error", `"sequence_number":4,"error":{"type":"server_error","code":"server_error","message":"it broke","param":null}`) +
			sseEvent("response.failed", `"sequence_number":5,"response":{"id":"resp_b","object":"response","created_at":1,"status":"failed","model":"m","output":[],"error":{"code":"server_error","message":"it broke"}}`),
		body:       `{"id":"resp_b","object":"response","created_at":1,"status":"completed","error":null,"incomplete_details":null,"model":"m","output":[{"type":"message","id":"msg_b","role":"assistant","status":"completed","content":[{"type":"output_text","text":"one two","annotations":[]}]}],"usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}`,
		failedBody: `{"id":"resp_b","object":"response","created_at":1,"status":"failed","error":{"code":"server_error","message":"it broke"},"model":"m","output":[]}`,
		refusal:    openAIRefusal,
	},
	{
		name:       "cognipeer",
		body:       `{"id":"resp_65a1","object":"response","model":"The Agent","output":[{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"output_text","text":"one two"}]}],"status":"completed","usage":{"input_tokens":0,"output_tokens":0,"total_tokens":0},"created_at":1767225600,"previous_response_id":null,"version":1}`,
		failedBody: `{"error":"it broke"}`,
		refusal:    func(m string) string { return `{"error":"` + m + `"}` },
	},
	{
		name:       "ticos",
		body:       `{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"one two"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`,
		failedBody: `{"error":{"message":"it broke"}}`,
		refusal:    openAIRefusal,
	},
	{
		name: "swarms",
		first: `data: {"job_id": "abc", "success": true, "name": "W", "description": "", "temperature": 0.8, "timestamp": "2026-02-05T00:58:15.252392+00:00", "stream": true, "type": "metadata"}` + "\n\n" +
			"event: start\ndata: {\"message\": \"Starting agent processing...\"}\n\nevent: chunk\ndata: {\"content\": \"one\", \"timestamp\": \"2026-02-05T00:58:15.200000+00:00\"}\n\n",
		rest: "event: chunk\ndata: {\"content\": \" two\", \"timestamp\": \"2026-02-05T00:58:15.200000+00:00\"}\n\n" +
			"event: usage\ndata: {\"input_tokens\": 1, \"output_tokens\": 2, \"total_tokens\": 3, \"img_cost\": 0.0, \"total_cost\": 0.0}\n\n" +
			"event: end\ndata: {\"job_id\": \"abc\", \"usage\": {\"input_tokens\": 1, \"output_tokens\": 2, \"total_tokens\": 3}, \"timestamp\": \"x\", \"complete\": true}\n\nevent: done\ndata: {\"message\": \"Agent processing complete\"}\n\n",
		failure:    "event: error\ndata: {\"error\": \"AgentCompletionError: it broke\", \"timestamp\": \"x\"}\n\n",
		body:       `{"job_id":"agent-1","success":true,"name":"W","description":null,"temperature":null,"outputs":[{"role":"W","content":"one two"}],"usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3},"timestamp":"x"}`,
		failedBody: `{"job_id":"agent-1","success":false,"error":"it broke","outputs":null,"timestamp":"x"}`,
		refusal:    func(m string) string { return `{"detail":"` + m + `"}` },
	},
	{
		name:  "cycls",
		first: "data: {\"type\": \"chat_id\", \"chat_id\": \"3b88\"}\n\ndata: {\"type\": \"text\", \"text\": \"one\"}\n\n",
		rest:  "data: {\"type\": \"text\", \"text\": \" two\"}\n\ndata: [DONE]\n\n",
		failure: "data: {\"type\": \"callout\", \"callout\": \"Something went wrong. Reference: `24df97f3`\", \"style\": \"error\", \"error_id\": \"24df97f3\"}\n\n" +
			"data: [DONE]\n\n",
		refusal: func(m string) string { return `{"detail":"` + m + `"}` },
	},
}

func sseEvent(name, fields string) string {
	return "event: " + name + "\ndata: {\"type\":\"" + name + "\"," + fields + "}\n\n"
}

// Backends by what they can do.
func anyBackend(script) bool    { return true }
func streaming(b script) bool   { return b.first != "" }
func answersJSON(b script) bool { return b.body != "" }

// eachCell runs fn for every pair of a face and a backend of a kind.
func eachCell(t *testing.T, kind func(script) bool, fn func(t *testing.T, f face, b script)) {
	for _, b := range backendScripts {
		if !kind(b) {
			continue
		}
		for _, f := range clientFaces {
			t.Run(f.name+"<-"+b.name, func(t *testing.T) {
				t.Parallel()
				fn(t, f, b)
			})
		}
	}
}
