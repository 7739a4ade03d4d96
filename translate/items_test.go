package translate

import (
	"strings"
	"testing"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// item is a line of the table of items and messages, wire/openai.md 3.2: a
// conversation, and what a backend of another protocol gets of it.
type item struct {
	name    string
	in      string // elements of messages or input
	want    string // elements of input or messages
	lost    string
	bad     string
	options map[string]string
}

var (
	openaiOwn = map[string]string{"openai": "true"}
	recalls   = map[string]string{"reasoning_history": "true"}
)

// chatItems is the table from left to right: what a Chat client's messages are to
// a Responses backend.
var chatItems = []item{
	{name: "system, developer, user", in: `{"role":"system","content":"s"},{"role":"developer","content":"d"},{"role":"user","content":"u"}`,
		want: `{"type":"message","role":"system","content":"s"},{"type":"message","role":"developer","content":"d"},{"type":"message","role":"user","content":"u"}`},
	{name: "system in mid-conversation", in: `{"role":"user","content":"u"},{"role":"system","content":"s"},{"role":"user","content":"v"}`,
		want: `{"type":"message","role":"user","content":"u"},{"type":"message","role":"system","content":"s"},{"type":"message","role":"user","content":"v"}`},
	{name: "name", in: `{"role":"user","name":"bob","content":"u"}`, want: `{"type":"message","role":"user","content":"u"}`, lost: "messages[0].name"},
	{name: "text parts", in: `{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}`,
		want: `{"type":"message","role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_text","text":"b"}]}`},
	{name: "image by URL, by data, with its detail", in: `{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x.test/a.png","detail":"low"}},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}`,
		want: `{"type":"message","role":"user","content":[{"type":"input_image","detail":"low","image_url":"https://x.test/a.png"},{"type":"input_image","detail":"auto","image_url":"data:image/png;base64,AA=="}]}`},
	{name: "image, flat", in: `{"role":"user","content":[{"type":"image_url","image_url":"https://x.test/a.png"}]}`,
		want: `{"type":"message","role":"user","content":[{"type":"input_image","detail":"auto","image_url":"https://x.test/a.png"}]}`},
	{name: "file", in: `{"role":"user","content":[{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,QQ=="}}]}`,
		want: `{"type":"message","role":"user","content":[{"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,QQ=="}]}`},
	{name: "file by id", in: `{"role":"user","content":[{"type":"text","text":"a"},{"type":"file","file":{"file_id":"file-1"}}]}`, bad: "messages[0].content[1].file_id"},
	{name: "audio", in: `{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"QQ==","format":"wav"}}]}`, bad: "messages[0].content[0]"},
	{name: "a vendor's part", in: `{"role":"user","content":[{"type":"video_url","video_url":{"url":"u"}}]}`, bad: "messages[0].content[0].type"},
	{name: "breakpoints of a prompt cache", in: `{"role":"user","content":[{"type":"text","text":"a","prompt_cache_breakpoint":{"mode":"explicit"}},{"type":"image_url","image_url":{"url":"u"},"prompt_cache_breakpoint":{"mode":"explicit","ttl":"30m"}}]}`,
		want: `{"type":"message","role":"user","content":[{"type":"input_text","text":"a","prompt_cache_breakpoint":{"mode":"explicit"}},{"type":"input_image","detail":"auto","image_url":"u","prompt_cache_breakpoint":{"mode":"explicit","ttl":"30m"}}]}`},
	{name: "a breakpoint at the only text", in: `{"role":"user","content":[{"type":"text","text":"a","prompt_cache_breakpoint":{"mode":"explicit"}}]}`,
		want: `{"type":"message","role":"user","content":[{"type":"input_text","text":"a","prompt_cache_breakpoint":{"mode":"explicit"}}]}`},
	{name: "assistant", in: `{"role":"assistant","content":"a"}`, want: `{"type":"message","role":"assistant","content":"a"}`},
	{name: "assistant, parts", in: `{"role":"assistant","content":[{"type":"text","text":"a"},{"type":"refusal","refusal":"no"}]}`,
		want: `{"type":"message","role":"assistant","content":[{"type":"output_text","text":"a","annotations":[]},{"type":"refusal","refusal":"no"}]}`},
	{name: "refusal", in: `{"role":"assistant","content":null,"refusal":"no"}`, want: `{"type":"message","role":"assistant","content":[{"type":"refusal","refusal":"no"}]}`},
	{name: "annotations, nested to flat", in: `{"role":"assistant","content":"see","annotations":[{"type":"url_citation","url_citation":{"url":"https://x.test","title":"X","start_index":0,"end_index":3}}]}`,
		want: `{"type":"message","role":"assistant","content":[{"type":"output_text","text":"see","annotations":[{"type":"url_citation","url":"https://x.test","title":"X","start_index":0,"end_index":3}]}]}`},
	{name: "annotations of nothing", in: `{"role":"assistant","content":null,"refusal":"no","annotations":[{"type":"url_citation","url_citation":{"url":"u"}}]}`,
		want: `{"type":"message","role":"assistant","content":[{"type":"refusal","refusal":"no"}]}`, lost: "messages[0].annotations"},
	{name: "an assistant's audio", in: `{"role":"assistant","content":"a","audio":{"id":"audio_1"}}`, want: `{"type":"message","role":"assistant","content":"a"}`, lost: "messages[0].audio"},
	{name: "reasoning is the model's own", in: `{"role":"assistant","content":"a","reasoning_content":"hm"}`, want: `{"type":"message","role":"assistant","content":"a"}`, lost: "messages[0].reasoning_content"},
	{name: "tool calls and their results", in: `{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},{"id":"call_2","type":"custom","custom":{"name":"c","input":"x"}}]},` +
		`{"role":"tool","tool_call_id":"call_1","content":"one"},{"role":"tool","tool_call_id":"call_2","content":"two"}`,
		want: `{"type":"function_call","call_id":"call_1","name":"f","arguments":"{\"a\":1}"},{"type":"custom_tool_call","call_id":"call_2","name":"c","input":"x"},` +
			`{"type":"function_call_output","call_id":"call_1","output":"one"},{"type":"custom_tool_call_output","call_id":"call_2","output":"two"}`},
	{name: "text and a call in one turn", in: `{"role":"assistant","content":"let me see","tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"call_1","content":"r"}`,
		want: `{"type":"message","role":"assistant","content":"let me see"},{"type":"function_call","call_id":"call_1","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"call_1","output":"r"}`},
	{name: "a call without arguments", in: `{"role":"assistant","tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":""}},{"id":"call_2","type":"custom","custom":{"name":"c","input":""}}]},{"role":"tool","tool_call_id":"call_1","content":""},{"role":"tool","tool_call_id":"call_2","content":""}`,
		want: `{"type":"function_call","call_id":"call_1","name":"f","arguments":"{}"},{"type":"custom_tool_call","call_id":"call_2","name":"c","input":""},{"type":"function_call_output","call_id":"call_1","output":""},{"type":"custom_tool_call_output","call_id":"call_2","output":""}`},
	{name: "a result in parts, an image among them", in: `{"role":"assistant","tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"call_1","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"u"}}]}`,
		want: `{"type":"function_call","call_id":"call_1","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"call_1","output":[{"type":"input_text","text":"a"},{"type":"input_image","detail":"auto","image_url":"u"}]}`},
	{name: "the deprecated form", in: `{"role":"user","content":"q"},{"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{}"}},{"role":"function","name":"f","content":"r"},` +
		`{"role":"assistant","content":null,"tool_calls":[{"id":"call_9","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"call_9","content":"s"}`,
		want: `{"type":"message","role":"user","content":"q"},{"type":"function_call","call_id":"call_function_1","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"call_function_1","output":"r"},` +
			`{"type":"function_call","call_id":"call_9","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"call_9","output":"s"}`},
	{name: "a result without its call", in: `{"role":"user","content":"q"},{"role":"tool","tool_call_id":"call_1","content":"r"}`, bad: "messages[1]"},
	{name: "an unknown role", in: `{"role":"wizard","content":"x"}`, bad: "messages[0].role"},
	{name: "members that vendors add", in: `{"role":"user","cache_control":{"type":"ephemeral"},"content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"},"x":1}]},` +
		`{"role":"assistant","content":"b","reasoning_details":[],"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}","y":1},"extra_content":{},"z":1}],"w":1},{"role":"tool","tool_call_id":"1","content":"r"}`,
		want: `{"type":"message","role":"user","content":"a"},{"type":"message","role":"assistant","content":"b"},{"type":"function_call","call_id":"1","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"1","output":"r"}`,
		lost: "messages[0].cache_control messages[0].content[0].cache_control messages[1].reasoning_details messages[1].tool_calls[0].extra_content unknown(4)"},
	{name: "what a message of its role cannot have", in: `{"role":"user","content":"a","tool_call_id":"x","refusal":"no","tool_calls":[]},{"role":"assistant","content":"b","tool_call_id":"x"}`,
		want: `{"type":"message","role":"user","content":"a"},{"type":"message","role":"assistant","content":"b"}`,
		lost: "messages[0].tool_calls messages[0].refusal messages[0].tool_call_id messages[1].tool_call_id"},
}

// responsesItems is the table from right to left.
var responsesItems = []item{
	{name: "messages in all their forms", in: `{"role":"system","content":"s"},{"role":"developer","content":"d"},{"type":"message","role":"user","content":"u"},{"type":"message","role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_text","text":"b"}]}`,
		want: `{"role":"system","content":"s"},{"role":"system","content":"d"},{"role":"user","content":"u"},{"role":"user","content":"a\nb"}`},
	{name: "developer stays developer with OpenAI", in: `{"role":"developer","content":"d"},{"role":"user","content":"u"}`, want: `{"role":"developer","content":"d"},{"role":"user","content":"u"}`, options: openaiOwn},
	{name: "system in mid-conversation", in: `{"role":"user","content":"u"},{"role":"system","content":"s"},{"role":"user","content":"v"}`,
		want: `{"role":"user","content":"u"},{"role":"system","content":"s"},{"role":"user","content":"v"}`},
	{name: "image by URL, by data, with its detail", in: `{"role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_image","image_url":"https://x.test/a.png","detail":"low"},{"type":"input_image","image_url":"data:image/png;base64,AA==","detail":"auto"}]}`,
		want: `{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"https://x.test/a.png","detail":"low"}},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA==","detail":"auto"}}]}`},
	{name: "image in its original size", in: `{"role":"user","content":[{"type":"input_image","image_url":"u","detail":"original"}]}`,
		want: `{"role":"user","content":[{"type":"image_url","image_url":{"url":"u","detail":"high"}}]}`, lost: "input[0].content[0].detail"},
	{name: "image in its original size for OpenAI", in: `{"role":"user","content":[{"type":"input_image","image_url":"u","detail":"original"}]}`,
		want: `{"role":"user","content":[{"type":"image_url","image_url":{"url":"u","detail":"original"}}]}`, options: openaiOwn},
	{name: "image by id", in: `{"role":"user","content":[{"type":"input_image","file_id":"file-1","detail":"auto"}]}`, bad: "input[0].content[0].file_id"},
	{name: "file", in: `{"role":"user","content":[{"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,QQ=="}]}`,
		want: `{"role":"user","content":[{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,QQ=="}}]}`},
	{name: "file with a detail", in: `{"role":"user","content":[{"type":"input_file","file_data":"QQ==","detail":"low"}]}`,
		want: `{"role":"user","content":[{"type":"file","file":{"file_data":"QQ=="}}]}`, lost: "input[0].content[0].detail"},
	{name: "file by id", in: `{"role":"user","content":[{"type":"input_file","file_id":"file-1"}]}`, bad: "input[0].content[0].file_id"},
	{name: "file by URL", in: `{"role":"user","content":[{"type":"input_file","file_url":"https://x.test/a.pdf"}]}`, bad: "input[0].content[0].file_url"},
	{name: "an unknown part", in: `{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"QQ==","format":"wav"}}]}`, bad: "input[0].content[0].type"},
	{name: "breakpoints of a prompt cache", in: `{"role":"user","content":[{"type":"input_text","text":"a","prompt_cache_breakpoint":{"mode":"explicit"}}]}`,
		want: `{"role":"user","content":"a"}`, lost: "input[0].content[0].prompt_cache_breakpoint"},
	{name: "breakpoints of a prompt cache of OpenAI's", in: `{"role":"user","content":[{"type":"input_text","text":"a","prompt_cache_breakpoint":{"mode":"explicit"}},{"type":"input_image","image_url":"u","prompt_cache_breakpoint":{"mode":"explicit"}},{"type":"input_file","file_data":"QQ==","prompt_cache_breakpoint":{"mode":"explicit"}}]}`,
		want: `{"role":"user","content":[{"type":"text","text":"a","prompt_cache_breakpoint":{"mode":"explicit"}},{"type":"image_url","image_url":{"url":"u"},"prompt_cache_breakpoint":{"mode":"explicit"}},{"type":"file","file":{"file_data":"QQ=="},"prompt_cache_breakpoint":{"mode":"explicit"}}]}`, options: openaiOwn},
	{name: "an answer that comes back", in: `{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"a","annotations":[],"logprobs":[]}]},{"role":"user","content":"u"}`,
		want: `{"role":"assistant","content":"a"},{"role":"user","content":"u"}`},
	{name: "an answer with its marks", in: `{"id":"msg_1","type":"message","status":"incomplete","role":"assistant","phase":"commentary","content":[{"type":"output_text","text":"a","annotations":[{"type":"url_citation","url":"u"}],"logprobs":[{"token":"a"}]}]}`,
		want: `{"role":"assistant","content":"a"}`, lost: "input[0].phase input[0].content[0].annotations input[0].content[0].logprobs input[0].status"},
	{name: "refusal", in: `{"type":"message","role":"assistant","content":[{"type":"refusal","refusal":"no"}]}`, want: `{"role":"assistant","content":null,"refusal":"no"}`},
	{name: "calls that follow one another", in: `{"type":"function_call","id":"fc_1","call_id":"call_1","name":"f","arguments":"{\"a\":1}","status":"completed"},{"type":"function_call","id":"fc_2","call_id":"call_2","name":"g","arguments":"{}"},` +
		`{"type":"custom_tool_call","id":"ctc_1","call_id":"call_3","name":"c","input":"x"},{"type":"function_call_output","call_id":"call_2","output":"two"},{"type":"custom_tool_call_output","call_id":"call_3","output":"three"},{"type":"function_call_output","call_id":"call_1","output":"one"}`,
		want: `{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},{"id":"call_2","type":"function","function":{"name":"g","arguments":"{}"}},{"id":"call_3","type":"custom","custom":{"name":"c","input":"x"}}]},` +
			`{"role":"tool","tool_call_id":"call_1","content":"one"},{"role":"tool","tool_call_id":"call_2","content":"two"},{"role":"tool","tool_call_id":"call_3","content":"three"}`},
	{name: "text and then a call", in: `{"type":"message","role":"assistant","content":"let me see"},{"type":"function_call","call_id":"1","name":"f","arguments":""},{"type":"function_call_output","call_id":"1","output":"r"}`,
		want: `{"role":"assistant","content":"let me see","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"r"}`},
	{name: "a message between call and output", in: `{"type":"function_call","call_id":"1","name":"f","arguments":"{}"},{"role":"user","content":"hurry"},{"type":"function_call_output","call_id":"1","output":"r"},{"role":"user","content":"so?"}`,
		want: `{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"r"},{"role":"user","content":"hurry"},{"role":"user","content":"so?"}`},
	{name: "a result in parts", in: `{"type":"function_call","call_id":"1","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"1","output":[{"type":"input_text","text":"a"},{"type":"input_text","text":"b"}]}`,
		want: `{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"a\nb"}`},
	{name: "an image as a result", in: `{"type":"function_call","call_id":"1","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"1","output":[{"type":"input_text","text":"a"},{"type":"input_image","image_url":"u"}]}`, bad: "input[1].output[1]"},
	{name: "reasoning before a call", in: `{"role":"user","content":"q"},{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"hm"}],"encrypted_content":"E"},{"type":"function_call","call_id":"1","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"1","output":"r"}`,
		want: `{"role":"user","content":"q"},{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"r"}`, lost: "input[1].encrypted_content input[1].summary[0]"},
	{name: "reasoning before a call, for a model that needs it", in: `{"role":"user","content":"q"},{"type":"reasoning","id":"rs_1","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]},{"type":"function_call","call_id":"1","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"1","output":"r"}`,
		want: `{"role":"user","content":"q"},{"role":"assistant","content":null,"reasoning_content":"hm","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"r"}`, options: recalls},
	{name: "reasoning before a message", in: `{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"hm"}]},{"type":"message","role":"assistant","phase":"final_answer","content":"a"}`,
		want: `{"role":"assistant","content":"a","reasoning_content":"hm"}`, lost: "input[1].phase", options: recalls},
	{name: "reasoning that nobody can read", in: `{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"E"},{"role":"assistant","content":"a"}`, want: `{"role":"assistant","content":"a"}`, lost: "input[0].encrypted_content input[0]"},
	{name: "an unfinished call", in: `{"type":"function_call","call_id":"1","name":"f","arguments":"{\"a","status":"incomplete"}`,
		want: `{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a"}}]}`, lost: "input[0].status"},
	{name: "a call of a namespace, of a program", in: `{"type":"function_call","call_id":"1","name":"f","arguments":"{}","namespace":"n","caller":{"type":"program","caller_id":"p"}},{"type":"function_call_output","call_id":"1","output":"r","name":"f","namespace":"n","z":1}`,
		want: `{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"r"}`,
		lost: "input[0].namespace input[0].caller input[1].namespace unknown(1)"},
	{name: "a call that the server ran itself", in: `{"role":"user","content":"q"},{"type":"web_search_call","id":"ws_1","status":"completed","action":{"type":"search","query":"x"}},{"role":"assistant","content":"a"}`,
		want: `{"role":"user","content":"q"},{"role":"assistant","content":"a"}`, lost: "input[1]"},
	{name: "an item of the vendor's machinery", in: `{"role":"user","content":"q"},{"type":"computer_call","id":"cu_1","call_id":"c","action":{}}`, bad: "input[1].type"},
	{name: "tools in mid-conversation", in: `{"role":"user","content":"q"},{"type":"additional_tools","role":"developer","tools":[]}`, bad: "input[1].type"},
	{name: "an unknown item", in: `{"role":"user","content":"q"},{"role":"user","content":"q"},{"type":"telepathy"}`, bad: "input[2].type"},
	{name: "a result without its call", in: `{"type":"function_call_output","call_id":"1","output":"r"}`, bad: "input[0]"},
	{name: "an unknown role", in: `{"role":"wizard","content":"x"}`, bad: "input[0].role"},
	{name: "members that nobody knows", in: `{"role":"user","a":1,"content":[{"type":"input_text","text":"u","b":1}]},{"type":"reasoning","id":"r","summary":[{"type":"summary_text","text":"hm","d":1}],"c":1}`, want: `{"role":"user","content":"u"}`, lost: "input[1].summary[0] unknown(4)"},
}

func checkItems(t *testing.T, face, backend *Protocol, before, after, wantBefore, wantAfter string, table []item) {
	t.Helper()
	for _, c := range table {
		body := before + c.in + after
		if !jsonx.Valid([]byte(body)) {
			t.Fatalf("%s: %s", c.name, body)
		}
		got, r, e := translated(face, backend, body, &Agent{Name: "it", Options: c.options})
		switch {
		case c.bad != "":
			if e == nil || e.Status != 400 || e.Param != c.bad || !strings.Contains(e.Message, c.bad) {
				t.Errorf("%s: got %v, want a 400 for %s", c.name, e, c.bad)
			}
		case e != nil:
			t.Errorf("%s: %v", c.name, e)
		default:
			if want := wantBefore + c.want + wantAfter; got != want {
				t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, want)
			}
			if lost := strings.Join(r.Ledger.Names(), " "); lost != c.lost {
				t.Errorf("%s: lost %q, want %q", c.name, lost, c.lost)
			}
			if backend == &responsesProtocol && strings.Contains(got, `"id":`) {
				t.Errorf("%s: an item's id went out: %s", c.name, got)
			}
			if _, e := backend.DecodeRequest(&Inbound{Route: &backend.Routes[0], Body: []byte(got)}); e != nil {
				t.Errorf("%s: our own face refuses it: %v", c.name, e)
			}
		}
		passesThrough(t, face, c.name, body)
	}
}

// TestMessagesTowardsResponses follows the table of items line by line.
func TestMessagesTowardsResponses(t *testing.T) {
	t.Parallel()
	checkItems(t, &chatProtocol, &responsesProtocol, `{"model":"m","messages":[`, `]}`, `{"model":"m","input":[`, `],"store":false,"stream":false}`, chatItems)
}

// TestItemsTowardsChat follows the same table the other way.
func TestItemsTowardsChat(t *testing.T) {
	t.Parallel()
	checkItems(t, &responsesProtocol, &chatProtocol, `{"model":"m","input":[`, `]}`, `{"model":"m","messages":[`, `],"stream":false}`, responsesItems)
}

// TestConversationsComeBack sends a whole conversation through the other API's
// words and back.
func TestConversationsComeBack(t *testing.T) {
	t.Parallel()
	const messages = `{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"q"},{"type":"image_url","image_url":{"url":"u","detail":"low"}},` +
		`{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,QQ=="}}]},` +
		`{"role":"assistant","content":"let me see","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"2","type":"custom","custom":{"name":"c","input":"x"}}]},` +
		`{"role":"tool","tool_call_id":"1","content":"one"},{"role":"tool","tool_call_id":"2","content":"two"},{"role":"assistant","content":"ah"},{"role":"assistant","content":null,"refusal":"no"},{"role":"user","content":"so?"}],"stream":false}`
	out, _, e := translated(&chatProtocol, &responsesProtocol, messages, &Agent{Name: "it"})
	if e != nil {
		t.Fatal(e)
	}
	back, r, e := translated(&responsesProtocol, &chatProtocol, out, &Agent{Name: "it"})
	if e != nil {
		t.Fatal(e)
	}
	if back != messages || r.Ledger.Len() > 0 {
		t.Errorf("got\n%s\nwant\n%s\nlost %v", back, messages, r.Ledger.Names())
	}
}
