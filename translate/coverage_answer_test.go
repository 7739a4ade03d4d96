package translate

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tidwall/gjson"
)

// fullAnswer is an answer with everything that the wire of a backend's protocol
// knows, x_vendor being what it does not: as a JSON body, and as the frames of
// a stream, each with its event line where the protocol has one.
type fullAnswer struct {
	body   string
	frames []fullFrame
}

type fullFrame struct{ event, data string }

func datas(data ...string) []fullFrame {
	f := make([]fullFrame, len(data))
	for i := range data {
		f[i].data = data[i]
	}
	return f
}

// typed are frames whose event line repeats their type.
func typed(data ...string) []fullFrame {
	f := datas(data...)
	for i := range f {
		f[i].event = gjson.Get(f[i].data, "type").String()
		f[i].data = strings.Replace(f[i].data, "{", fmt.Sprintf(`{"sequence_number":%d,`, i), 1)
	}
	return f
}

const (
	fullResponsesHead = `"id":"resp_1","object":"response","created_at":1770253095,"background":false,"error":null,"incomplete_details":null,"instructions":"Be kind.",` +
		`"max_output_tokens":100,"max_tool_calls":null,"model":"m","parallel_tool_calls":true,"previous_response_id":null,"prompt_cache_key":null,"reasoning":{"effort":"low","summary":"auto"},` +
		`"safety_identifier":null,"service_tier":"default","store":true,"temperature":1.0,"text":{"format":{"type":"text"},"verbosity":"medium"},"tool_choice":"auto","tools":[],"top_logprobs":0,` +
		`"top_p":1.0,"truncation":"disabled","user":null,"metadata":{"k":"v"},"x_vendor":1`
	fullReasoningItem = `{"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":"Sunny?"}],"content":[{"type":"reasoning_text","text":"Look."}],"encrypted_content":"c2VjcmV0"}`
	fullAnnotation    = `{"type":"url_citation","url":"https://example.com","title":"Example","start_index":0,"end_index":3}`
	fullLogprobs      = `[{"token":"Sun","logprob":-0.1,"bytes":[83,117,110],"top_logprobs":[{"token":"Rain","logprob":-2.0,"bytes":[82]}]}]`
	fullMessageItem   = `{"id":"msg_1","type":"message","status":"completed","role":"assistant","phase":"commentary","content":[{"type":"output_text","text":"Sunny.","annotations":[` + fullAnnotation + `],"logprobs":` + fullLogprobs + `},{"type":"refusal","refusal":"No more."}]}`
	fullCallItem      = `{"id":"fc_1","type":"function_call","status":"completed","call_id":"call_1","name":"get_weather","arguments":"{\"city\":\"Bern\"}"}`
	fullCustomItem    = `{"id":"ctc_1","type":"custom_tool_call","status":"completed","call_id":"call_2","name":"run_code","input":"print(1)"}`
	fullSearchItem    = `{"id":"ws_1","type":"web_search_call","status":"completed","action":{"type":"search","query":"weather"}}`
	fullImageItem     = `{"id":"ig_1","type":"image_generation_call","status":"completed","result":"iVBORw0KGgo="}`
	fullFinalItem     = `{"id":"msg_2","type":"message","status":"completed","role":"assistant","phase":"final_answer","content":[{"type":"output_text","text":"Done.","annotations":[],"logprobs":[]}]}`
	fullUsage         = `{"input_tokens":11,"input_tokens_details":{"cached_tokens":3,"cache_write_tokens":4},"output_tokens":7,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":18}`
	fullOutput        = fullReasoningItem + `,` + fullSearchItem + `,` + fullMessageItem + `,` + fullImageItem + `,` + fullFinalItem + `,` + fullCallItem + `,` + fullCustomItem
)

var fullAnswers = map[string]fullAnswer{
	"chat": {
		body: `{"id":"chatcmpl-1","object":"chat.completion","created":1770253095,"model":"m","service_tier":"default","system_fingerprint":"fp_1","choices":[{"index":0,"message":{"role":"assistant","content":"Sunny.","refusal":"No more.",` +
			`"reasoning_content":"Look.","annotations":[{"type":"url_citation","url_citation":{"url":"https://example.com","title":"Example","start_index":0,"end_index":3}}],"audio":{"id":"audio_1","data":"UklGRg==","expires_at":1770253999,"transcript":"Sunny"},` +
			`"tool_calls":[{"id":"call_1","type":"function","function":{"name":"get_weather","arguments":"{\"city\":\"Bern\"}"}},{"id":"call_2","type":"custom","custom":{"name":"run_code","input":"print(1)"}}],"x_vendor":1},` +
			`"logprobs":{"content":` + fullLogprobs + `,"refusal":` + fullLogprobs + `},"finish_reason":"tool_calls","x_vendor":1}],` +
			`"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18,"prompt_tokens_details":{"cached_tokens":3,"cache_write_tokens":4,"audio_tokens":1},"completion_tokens_details":{"reasoning_tokens":2,"audio_tokens":1,"accepted_prediction_tokens":1,"rejected_prediction_tokens":1}},"x_vendor":1}`,
		frames: datas(
			`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1770253095,"model":"m","service_tier":"default","system_fingerprint":"fp_1","obfuscation":"x","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null,"x_vendor":1}],"x_vendor":1}`,
			`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1770253095,"model":"m","choices":[{"index":0,"delta":{"reasoning_content":"Look."},"finish_reason":null}]}`,
			`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1770253095,"model":"m","choices":[{"index":0,"delta":{"content":"Sunny."},"logprobs":{"content":`+fullLogprobs+`,"refusal":null},"finish_reason":null}]}`,
			`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1770253095,"model":"m","choices":[{"index":0,"delta":{"annotations":[{"type":"url_citation","url_citation":{"url":"https://example.com","title":"Example","start_index":0,"end_index":3}}]},"finish_reason":null}]}`,
			`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1770253095,"model":"m","choices":[{"index":0,"delta":{"refusal":"No more."},"logprobs":{"content":null,"refusal":`+fullLogprobs+`},"finish_reason":null}]}`,
			`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1770253095,"model":"m","choices":[{"index":0,"delta":{"audio":{"id":"audio_1","data":"UklGRg==","expires_at":1770253999,"transcript":"Sunny"}},"finish_reason":null}]}`,
			`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1770253095,"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"get_weather","arguments":""}}]},"finish_reason":null}]}`,
			`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1770253095,"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"city\":\"Bern\"}"}}]},"finish_reason":null}]}`,
			`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1770253095,"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_2","type":"custom","custom":{"name":"run_code","input":"print(1)"}}]},"finish_reason":null}]}`,
			`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1770253095,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}`,
			`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1770253095,"model":"m","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18,"prompt_tokens_details":{"cached_tokens":3,"cache_write_tokens":4,"audio_tokens":1},"completion_tokens_details":{"reasoning_tokens":2,"audio_tokens":1,"accepted_prediction_tokens":1,"rejected_prediction_tokens":1}}}`,
			`[DONE]`),
	},
	"responses": {
		body: `{` + fullResponsesHead + `,"status":"completed","completed_at":1770253099,"output":[` + fullOutput + `],"usage":` + fullUsage + `}`,
		frames: typed(
			`{"type":"response.created","response":{`+fullResponsesHead+`,"status":"in_progress","output":[],"usage":null}}`,
			`{"type":"response.in_progress","response":{`+fullResponsesHead+`,"status":"in_progress","output":[],"usage":null}}`,
			`{"type":"response.output_item.added","output_index":0,"item":{"id":"rs_1","type":"reasoning","summary":[]}}`,
			`{"type":"response.reasoning_summary_part.added","item_id":"rs_1","output_index":0,"summary_index":0,"part":{"type":"summary_text","text":""}}`,
			`{"type":"response.reasoning_summary_text.delta","item_id":"rs_1","output_index":0,"summary_index":0,"delta":"Sunny?","obfuscation":"x"}`,
			`{"type":"response.reasoning_text.delta","item_id":"rs_1","output_index":0,"content_index":0,"delta":"Look."}`,
			`{"type":"response.output_item.done","output_index":0,"item":`+fullReasoningItem+`}`,
			`{"type":"response.output_item.added","output_index":1,"item":{"id":"ws_1","type":"web_search_call","status":"in_progress"}}`,
			`{"type":"response.web_search_call.searching","item_id":"ws_1","output_index":1}`,
			`{"type":"response.output_item.done","output_index":1,"item":`+fullSearchItem+`}`,
			`{"type":"response.output_item.added","output_index":2,"item":{"id":"msg_1","type":"message","status":"in_progress","role":"assistant","phase":"commentary","content":[]}}`,
			`{"type":"response.content_part.added","item_id":"msg_1","output_index":2,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}`,
			`{"type":"response.output_text.delta","item_id":"msg_1","output_index":2,"content_index":0,"delta":"Sunny.","logprobs":`+fullLogprobs+`,"obfuscation":"x"}`,
			`{"type":"response.output_text.annotation.added","item_id":"msg_1","output_index":2,"content_index":0,"annotation_index":0,"annotation":`+fullAnnotation+`}`,
			`{"type":"response.content_part.added","item_id":"msg_1","output_index":2,"content_index":1,"part":{"type":"refusal","refusal":""}}`,
			`{"type":"response.refusal.delta","item_id":"msg_1","output_index":2,"content_index":1,"delta":"No more."}`,
			`{"type":"response.output_item.done","output_index":2,"item":`+fullMessageItem+`}`,
			`{"type":"response.output_item.added","output_index":3,"item":{"id":"ig_1","type":"image_generation_call","status":"in_progress"}}`,
			`{"type":"response.image_generation_call.partial_image","item_id":"ig_1","output_index":3,"partial_image_index":0,"partial_image_b64":"iVBO"}`,
			`{"type":"response.output_item.done","output_index":3,"item":`+fullImageItem+`}`,
			`{"type":"response.output_item.added","output_index":4,"item":{"id":"msg_2","type":"message","status":"in_progress","role":"assistant","phase":"final_answer","content":[]}}`,
			`{"type":"response.output_text.delta","item_id":"msg_2","output_index":4,"content_index":0,"delta":"Done.","logprobs":[]}`,
			`{"type":"response.output_item.done","output_index":4,"item":`+fullFinalItem+`}`,
			`{"type":"response.output_item.added","output_index":5,"item":{"id":"fc_1","type":"function_call","status":"in_progress","call_id":"call_1","name":"get_weather","arguments":""}}`,
			`{"type":"response.function_call_arguments.delta","item_id":"fc_1","output_index":5,"delta":"{\"city\":\"Bern\"}"}`,
			`{"type":"response.output_item.done","output_index":5,"item":`+fullCallItem+`}`,
			`{"type":"response.output_item.added","output_index":6,"item":{"id":"ctc_1","type":"custom_tool_call","status":"in_progress","call_id":"call_2","name":"run_code","input":""}}`,
			`{"type":"response.custom_tool_call_input.delta","item_id":"ctc_1","output_index":6,"delta":"print(1)"}`,
			`{"type":"response.output_item.done","output_index":6,"item":`+fullCustomItem+`}`,
			`{"type":"response.completed","response":{`+fullResponsesHead+`,"status":"completed","completed_at":1770253099,"output":[`+fullOutput+`],"usage":`+fullUsage+`}}`),
	},
	"cognipeer": {
		body: `{"id":"resp_c1","object":"response","model":"The Agent","output":[{"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":"Look."}]},` +
			`{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"output_text","text":"Sunny."}],"x_vendor":1}],"status":"completed","usage":{"input_tokens":0,"output_tokens":0,"total_tokens":0},"created_at":1767225600,"previous_response_id":null,"version":3,"x_vendor":1}`,
	},
	"ticos": {
		body: `{"id":"chatcmpl-1","object":"chat.completion","created":1770253095,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Sunny."},"finish_reason":"length","x_vendor":1}],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18},"x_vendor":1}`,
	},
	"swarms": {
		body: `{"job_id":"agent-1","success":true,"name":"it","description":"Helps","temperature":0.5,"outputs":[` +
			`{"role":"user","content":"How is the weather?","timestamp":"2026-02-05T00:58:15","message_id":"m-0","category":"input"},` +
			`{"role":"it","content":"Looking.","timestamp":"2026-02-05T00:58:15","message_id":"m-1","category":"output"},` +
			`{"role":"it","content":[{"function":{"arguments":"{\"q\":\"weather\"}","name":"auto_search"},"id":"call_0","type":"function"}],"message_id":"m-2"},` +
			`{"role":"tool","tool_call_id":"call_0","content":"18 degrees","message_id":"m-3"},` +
			`{"role":"it","content":"Sunny.","message_id":"m-4","x_vendor":1},` +
			`{"role":"it","content":[{"function":{"arguments":"{\"city\":\"Bern\"}","name":"get_weather"},"id":"call_1","type":"function"}],"message_id":"m-5"}],` +
			`"usage":{"input_tokens":11,"output_tokens":7,"total_tokens":18,"img_cost":0.1,"total_cost":0.2},"timestamp":"2026-02-05T00:58:16+00:00","x_vendor":1}`,
		frames: []fullFrame{
			{"", `{"job_id":"agent-1","success":true,"name":"it","description":"Helps","temperature":0.5,"timestamp":"2026-02-05T00:58:15+00:00","stream":true,"type":"metadata","x_vendor":1}`},
			{"start", `{"message":"Starting agent processing..."}`},
			{"chunk", `{"content":"Sunny.","timestamp":"2026-02-05T00:58:15+00:00","x_vendor":1}`},
			{"chunk", `{"agent":"other","content":"Indeed."}`},
			{"chunk", `{"content":[{"function":{"arguments":"{\"q\":\"weather\"}","name":"auto_search"},"id":"call_0","type":"function"}]}`},
			{"chunk", `{"role":"tool","tool_call_id":"call_0","content":"18 degrees"}`},
			{"chunk", `{"content":[{"function":{"arguments":"{\"city\":\"Bern\"}","name":"get_weather"},"id":"call_1","type":"function"}]}`},
			{"usage", `{"input_tokens":11,"output_tokens":7,"total_tokens":18,"img_cost":0.1,"total_cost":0.2}`},
			{"end", `{"job_id":"agent-1","timestamp":"2026-02-05T00:58:16+00:00","complete":true}`},
			{"done", `{"message":"Agent processing complete"}`},
		},
	},
	"cycls": {
		body: `{"role":"assistant","parts":[{"type":"thinking","thinking":"Look."},{"type":"text","text":"Sunny."},{"type":"code","code":"x=1","language":"python"},` +
			`{"type":"table","headers":["A","B"],"rows":[["1","2"]]},{"type":"callout","callout":"Done","style":"success","title":"T"},{"type":"image","src":"https://example.com/a.png","alt":"A","caption":"C"},` +
			`{"type":"status","status":"busy"},{"type":"step","step":"Looking","tool_name":"look","id":"s-1","args":"{\"a\":1}","result":"found"},{"type":"ui","action":"title"}]}`,
		frames: datas(
			`{"type":"chat_id","chat_id":"c-1","first":true}`,
			`{"type":"thinking","thinking":"Look."}`,
			`{"type":"text","text":"Sunny."}`,
			`{"type":"code","code":"x=1","language":"python"}`,
			`{"type":"table","headers":["A","B"]}`,
			`{"type":"table","row":["1","2"]}`,
			`{"type":"callout","callout":"Done","style":"success","title":"T"}`,
			`{"type":"image","src":"https://example.com/a.png","alt":"A","caption":"C"}`,
			`{"type":"status","status":"busy"}`,
			`{"type":"step","step":"Looking","tool_name":"look","id":"s-1"}`,
			`{"type":"step_arg","id":"s-1","delta":"{\"a\":1}"}`,
			`{"type":"step","id":"s-1","ok":false,"result":"found"}`,
			`{"type":"tool_call","tool":"peek","args":{"b":2},"id":"call_9"}`,
			`{"type":"ui","action":"title"}`,
			`{"type":"sources","id":"s-2","sources":["https://example.com"]}`,
			`{"type":"file","path":"https://example.com/a.pdf","name":"a.pdf"}`,
			`{"type":"text","text":"Bye."}`,
			`[DONE]`),
	},
}

// stream writes the frames; one of them may be given otherwise.
func (a *fullAnswer) stream(other int, data string) string {
	var b strings.Builder
	for i, f := range a.frames {
		if f.event != "" {
			b.WriteString("event: " + f.event + "\n")
		}
		if i == other {
			f.data = data
		}
		b.WriteString("data: " + f.data + "\n\n")
	}
	return b.String()
}

// answerTo is what a client got, and what the ledger names.
func answerTo(t testing.TB, back, face *Protocol, gotStream, wantStream bool, body string) (out string, lost []string) {
	t.Helper()
	c := &goldenCase{backend: back, body: []byte(body), stream: gotStream, status: 200}
	b, _, s := c.answer(t, face, wantStream, nil)
	return string(b), s.Ledger.Names()
}

// TestAnswerLedgers pins what the clients of every face are not given of a
// full-featured answer of every backend: translate/testdata/ledger/answers/<backend>.txt.
func TestAnswerLedgers(t *testing.T) {
	t.Parallel()
	for _, back := range registry {
		t.Run(back.Name, func(t *testing.T) {
			t.Parallel()
			full := fullAnswers[back.Name]
			var b strings.Builder
			fmt.Fprintf(&b, "What a client is not given of an answer in %s that has everything.\n", back.Title)
			for _, face := range registry {
				fmt.Fprintf(&b, "\n== to %s\n", face.Name)
				for _, gotStream := range []bool{true, false} {
					body := full.body
					if gotStream {
						if len(full.frames) == 0 {
							continue
						}
						body = full.stream(-1, "")
					}
					_, s := answerTo(t, back, face, gotStream, true, body)
					_, j := answerTo(t, back, face, gotStream, false, body)
					fromStream, fromJSON := list(s), list(j)
					if fromStream == fromJSON {
						fmt.Fprintf(&b, "of a %s: %s\n", kindOf(gotStream), fromStream)
						continue
					}
					fmt.Fprintf(&b, "of a %s, as a stream: %s\n", kindOf(gotStream), fromStream)
					fmt.Fprintf(&b, "of a %s, as JSON: %s\n", kindOf(gotStream), fromJSON)
				}
			}
			pinned(t, filepath.Join("testdata", "ledger", "answers", back.Name+".txt"), b.String())
		})
	}
}

func kindOf(stream bool) string {
	if stream {
		return "stream"
	}
	return "JSON body"
}

// list is what a ledger names, in one order.
func list(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(slices.Sorted(slices.Values(names)), ", ")
}

// silentAnswers are leaves of an answer that a client of another protocol (or of
// the same one in the other mode) is not told of although no ledger names them,
// each with the reason why nothing is lost. A star is any backend or face; path
// is a regular expression, in which the frames of a stream are named by their
// event.
var silentAnswers = []struct{ backend, face, path, why string }{
	{"*", "*", `.*x_vendor`, "what no protocol of ours knows has no other word anywhere"},
	{"*", "*", `(chunk:|response\.[a-z_]+:response\.)?(id|object|model|created(_at)?|completed_at|status)`, "the envelope, which every face writes for itself"},
	{"*", "*", `(metadata:|end:)?(job_id|name|description|temperature|timestamp|stream)|chunk:timestamp|start:message|done:message`, "the envelope of Swarms, or of its clock"},
	{"*", "*", `.*\.role|role|chunk:role`, "it is the assistant who speaks"},
	{"*", "*", `(chunk:|response\.[a-z_]+:response\.)?(service_tier|system_fingerprint|obfuscation)|response\..*:obfuscation`, "about the server, and not the answer"},
	{"*", "*", `response\..*:(sequence_number|item_id|output_index|content_index|summary_index|annotation_index|partial_image_index)|.*tool_calls\[\*\]\.index`, "where it stands in the stream; every face numbers its own"},
	{"*", "*", `.*(usage|usage:).*_cost`, "the vendor's own bill; the tokens are told"},
	{"*", "(responses|cognipeer|ticos|swarms)", `.*usage.*(audio|_prediction)_tokens`, "the protocol has no such counts in any answer, but the sums that they are part of"},
	{"*", "cycls", `.*usage.*`, "the protocol has no token counts in any answer; the log has them"},
	{"*", "(ticos|swarms)", `.*usage.*(cached|cache_write|reasoning)_tokens`, "the protocol has no such counts in any answer; the log has them"},
	{"chat", "(responses|cognipeer)", `choices\[\*\]\.finish_reason`, "that tools are called is told by the calls"},

	{"responses", "*", `(response\.[a-z_]+:response\.)?(background|instructions|max_output_tokens|parallel_tool_calls|reasoning\..*|store|temperature|text\..*|tool_choice|top_logprobs|top_p|truncation|metadata\..*)`,
		"the request told back; the Responses face tells its own client's"},
	{"*", "cognipeer", `.*logprobs.*`, "the client did not ask for them"},
	{"responses", "*", `response\.in_progress:.*`, "repeats response.created"},
	{"responses", "*", `response\.output_item\.added:item\.(id|status|arguments|input)`, "output_item.done is what counts"},
	{"responses", "*", `response\.(content_part|reasoning_summary_part)\.added:.*`, "announces what the deltas bring"},
	{"responses", "*", `response\.completed:response\.output.*`, "repeats the items of the stream"},
	{"responses", "*", `(response\.output_item\.done:item|output\[\*\])\.(id|status)`, "of an item in the vendor's store; whole is what is not said to be cut"},
	{"responses", "*", `(response\.output_item\.done:item|output\[\*\])\.encrypted_content`, "was not asked for; the request that asks is pinned elsewhere"},
	{"responses", "*", `response\.output_item\.done:item\.(summary|content|arguments|input|name|call_id|phase).*`, "repeats the deltas and the announcement"},
	{"responses", "*", `response\.image_generation_call\.partial_image:.*`, "a sketch of the image that follows"},
	{"responses", "(chat|ticos|swarms|cycls)", `.*\.phase`, "the last message is the answer anyway"},

	{"cognipeer", "*", `output\[\*\]\.id|version`, "of the vendor's store"},
	{"swarms", "*", `outputs\[\*\]\.(timestamp|message_id|category)`, "of the vendor's store"},
	{"cycls", "*", `chat_id:.*`, "a name for a conversation of the backend's own: clients get ours, where conversations are kept"},
}

// covers are the leaves that an entry of the ledger stands for.
var covers = []struct{ entry, path string }{
	{"audio", `.*\.audio\..*`},
	{"annotations", `.*annotation.*`},
	{"logprobs", `.*logprobs.*`},
	{"reasoning", `.*(summary|reasoning).*|output\[\*\]\.content\[\*\]\.text|thinking:.*|.*thinking`},
	{"ran_tool_call", `.*(action\.query|result|function\.(name|arguments)|content\[\*\]\.id)|(step|step_arg|tool_call):.*|parts\[\*\]\.(step|tool_name|id|args|result)|response\.output_item\.done:item.*`},
	{"tool_result", `chunk:(content|tool_call_id)|outputs\[\*\]\.(content|tool_call_id)|step:result|parts\[\*\]\.result`},
	{"status", `status:status|parts\[\*\]\.status`},
	{"data", `(ui|sources):.*|parts\[\*\]\.action`},
}

func isSilentAnswer(back, face *Protocol, path string) bool {
	for _, e := range silentAnswers {
		if (e.backend == "*" || e.backend == back.Name) && (e.face == "*" || matches(e.face, face.Name)) && matches(e.path, path) {
			return true
		}
	}
	return false
}

func isCovered(ledger []string, path string) bool {
	for _, c := range covers {
		if slices.Contains(ledger, c.entry) && matches(c.path, path) {
			return true
		}
	}
	return false
}

var compiled sync.Map // of regular expressions

func matches(pattern, text string) bool {
	re, ok := compiled.Load(pattern)
	if !ok {
		re, _ = compiled.LoadOrStore(pattern, regexp.MustCompile("^(?:"+pattern+")$"))
	}
	return re.(*regexp.Regexp).MatchString(text)
}

// TestNoAnswerIsLostInSilence takes every leaf out of every full-featured answer
// and changes it: the client is told otherwise, or the ledger names the loss.
func TestNoAnswerIsLostInSilence(t *testing.T) {
	t.Parallel()
	for _, back := range registry {
		for _, face := range registry {
			for mode := range 4 {
				gotStream, wantStream := mode&1 != 0, mode&2 != 0
				full := fullAnswers[back.Name]
				if back == face && gotStream == wantStream || gotStream && len(full.frames) == 0 {
					continue
				}
				t.Run(fmt.Sprintf("%s to %s %s to %s", back.Name, face.Name, modeName(gotStream), modeName(wantStream)), func(t *testing.T) {
					t.Parallel()
					ask := func(body string) (string, []string) {
						return answerTo(t, back, face, gotStream, wantStream, body)
					}
					if !gotStream {
						leaves(t, back, face, "", full.body, ask)
						return
					}
					for i, f := range full.frames {
						if f.data == "[DONE]" {
							continue
						}
						name := firstOf(f.event, gjson.Get(f.data, "type").String())
						if back.Name == "chat" {
							name = "chunk"
						}
						leaves(t, back, face, name+":", f.data, func(data string) (string, []string) { return ask(full.stream(i, data)) })
					}
				})
			}
		}
	}
}

func leaves(t *testing.T, back, face *Protocol, frame, data string, ask func(string) (string, []string)) {
	doc := parseTree(t, data)
	out, ledger := ask(doc.String())
	whole := out + strings.Join(ledger, ",")
	again := func() string {
		out, ledger := ask(doc.String())
		return out + strings.Join(ledger, ",")
	}
	doc.each(func(parent, c *tree) {
		if c.open != 0 || c.raw == "null" || c.key == "type" {
			return
		}
		path := frame + starIndex.ReplaceAllString(c.path, "[*]")
		if isSilentAnswer(back, face, path) || isCovered(ledger, path) {
			return
		}
		if parent.open == '{' {
			kept := parent.child
			parent.remove(c)
			got := again()
			parent.child = kept
			if got != whole {
				return
			}
		}
		raw := c.raw
		if v, _ := other(c); v != "" {
			c.raw = v
			got := again()
			c.raw = raw
			if got != whole {
				return
			}
		}
		t.Errorf("%s%s is lost in silence (%.40s)", frame, c.path, raw)
	})
}
