package translate

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// responsesProtocol is the OpenAI Responses API.
var responsesProtocol = Protocol{
	Name:        "responses",
	Title:       "OpenAI Responses",
	Routes:      append(respRoutes("/v1"), respRoutes("")...),
	BackendPath: "/v1/responses",
	Probe:       modelsBeside,
	Speaks:      respSpeech,
	AsksStream:  StreamAsAsked,
	TakesItems:  true,
	TakesMarks:  true,
	Threads:     ThreadsByTurn,
	Options: []Option{
		{Name: "state", Values: []string{"proxy", "backend"}, Default: "proxy",
			Doc: "who keeps what was said for previous_response_id: the proxy, which sends the backend all of it, or the backend, which then keeps whatever clients do not forbid"},
	},
	Face:    responsesFace{},
	Backend: responsesBackend{},
}

// respRoutes are the routes below a prefix.
func respRoutes(prefix string) []Route {
	return []Route{
		{Method: "POST", Path: prefix + "/responses", Op: OpGenerate},
		{Method: "GET", Path: prefix + "/responses/{id}", Op: OpResponse},
		{Method: "DELETE", Path: prefix + "/responses/{id}", Op: OpDeleteResponse},
		{Method: "POST", Path: prefix + "/responses/{id}/cancel", Op: OpCancelResponse},
		{Method: "GET", Path: prefix + "/responses/{id}/input_items", Op: OpInputItems},
		{Method: "POST", Path: prefix + "/conversations", Op: OpNewConversation},
		{Method: "GET", Path: prefix + "/conversations/{id}", Op: OpConversation},
		{Method: "POST", Path: prefix + "/conversations/{id}", Op: OpSetConversation},
		{Method: "DELETE", Path: prefix + "/conversations/{id}", Op: OpDeleteConversation},
		{Method: "GET", Path: prefix + "/conversations/{id}/items", Op: OpItems},
		{Method: "POST", Path: prefix + "/conversations/{id}/items", Op: OpAddItems},
		{Method: "GET", Path: prefix + "/conversations/{id}/items/{item}", Op: OpItem},
		{Method: "DELETE", Path: prefix + "/conversations/{id}/items/{item}", Op: OpDeleteItem},
	}
}

// respSpeech is what the encoder of Responses answers takes. Calls that the
// backend ran itself, and data, it writes only where they came as items of the
// Responses API; it notes the others in the ledger.
var respSpeech = Speech{
	Blocks:   Blocks(BlockText, BlockReasoning, BlockRefusal, BlockToolCall, BlockData),
	Logprobs: Blocks(BlockText),
	Ran:      true,
	Phase:    true,
}

type responsesFace struct{}

// DecodeRequest implements Face.
func (responsesFace) DecodeRequest(in *Inbound) (*Request, *Error) {
	d := respRequest{r: &Request{Face: &responsesProtocol, Body: in.Body}, lazy: in.Lazy}
	if err := d.decode(); err != nil {
		return nil, err
	}
	if err := d.refer(in.State); err != nil {
		return nil, err
	}
	if d.input.Type == gjson.Null {
		// A stored prompt can be all that is asked; only the backend knows.
		if _, ok := d.r.Setting(ParamPrompt); ok {
			return d.r, nil
		}
		return nil, Invalid(At("input"), "'input' is required.")
	}
	if err := d.references(in.State); err != nil {
		return nil, err
	}
	if in.Lazy {
		d.r.later = d.decodeInput
		return d.r, nil
	}
	return d.r, d.decodeInput()
}

// NewEncoder implements Face.
func (responsesFace) NewEncoder(s *Setup) Encoder { return newRespEncoder(s) }

// AppendAnswer implements Face.
func (responsesFace) AppendAnswer(dst []byte, s *Setup, f *Fold) []byte {
	return appendRespAnswer(dst, s, f)
}

// AppendError implements Face.
func (responsesFace) AppendError(dst []byte, e *Error) []byte { return appendOpenAIError(dst, e) }

// AppendFailure implements Face. The output of its response is empty although
// items went by: the tap of a passed-through stream remembers no text, and clients
// that show a failed answer have it from the events, as the vendor's helpers do.
func (responsesFace) AppendFailure(dst []byte, e *Error, t *Tap) []byte {
	return appendRespFailure(dst, e, t)
}

// AppendAgents implements Face: the list of models is the one listing that the
// vendor's API has.
func (responsesFace) AppendAgents(dst []byte, op Op, agents []AgentInfo) []byte {
	if op != OpAgents {
		return appendRespModel(dst, &agents[0])
	}
	dst = append(dst, `{"object":"list","data":[`...)
	for i := range agents {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendRespModel(dst, &agents[i])
	}
	return append(dst, "]}"...)
}

func appendRespModel(dst []byte, a *AgentInfo) []byte {
	dst = append(dst, `{"id":`...)
	dst = jsonx.AppendStringS(dst, a.Name)
	dst = append(dst, `,"object":"model","created":`...)
	dst = strconv.AppendInt(dst, a.Created, 10)
	return append(dst, `,"owned_by":"dragoman"}`...)
}

// AppendTurn implements StateFace.
func (responsesFace) AppendTurn(dst []byte, r *Request, id func(prefix string, n int) string) []byte {
	return appendRespTurn(dst, r, id)
}

type responsesBackend struct{}

// NewDecoder implements Backend.
func (responsesBackend) NewDecoder(s *Setup) Decoder { return newRespDecoder(s) }

// respItems are the item types of the Responses API that have no neutral
// meaning of their own. The value says what they are: true for calls that the
// vendor's server runs itself, false for everything else (calls to the client's
// machine, their outputs, approvals, compaction).
var respItems = map[string]bool{
	"web_search_call":         true,
	"file_search_call":        true,
	"code_interpreter_call":   true,
	"image_generation_call":   true,
	"mcp_call":                true,
	"tool_search_call":        true,
	"tool_search_output":      false,
	"mcp_list_tools":          false,
	"mcp_approval_request":    false,
	"mcp_approval_response":   false,
	"computer_call":           false,
	"computer_call_output":    false,
	"local_shell_call":        false,
	"local_shell_call_output": false,
	"shell_call":              false,
	"shell_call_output":       false,
	"apply_patch_call":        false,
	"apply_patch_call_output": false,
	"compaction":              false,
	"compaction_trigger":      false,
	"program":                 true,
	"program_output":          false,
	"additional_tools":        false,
	"configuration_update":    false,
}

// respNative reports whether native is an item that only the Responses API
// knows: no other protocol writes objects with these types.
func respNative(native string) bool {
	if native == "" {
		return false
	}
	_, ok := respItems[respType(native)]
	return ok
}

// respFamily reports whether the request came in by a face that speaks the
// items of the Responses API.
func respFamily(r *Request) bool {
	return r != nil && r.Face != nil && (r.Face.Name == "responses" || r.Face.Name == "cognipeer")
}

// respType is the type of a raw item, "" if it has none.
func respType(item string) string {
	if t := gjson.Get(item, "type"); t.Type == gjson.String {
		return t.Str
	}
	return ""
}

// respAppendJSON writes a raw JSON value from outside so that it fits on the one
// line of a frame and is UTF-8.
func respAppendJSON(dst, raw []byte) []byte {
	if utf8.Valid(raw) {
		return jsonx.AppendCompact(dst, raw)
	}
	start := len(dst)
	dst = jsonx.AppendCompact(dst, raw)
	// Strings are the only place where bytes beyond ASCII can stand.
	fixed := strings.ToValidUTF8(string(dst[start:]), "\uFFFD")
	return append(dst[:start], fixed...)
}
