package translate

import (
	"strconv"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// chatProtocol is OpenAI Chat Completions: the one every client library and
// every model server speaks, each with habits of its own.
var chatProtocol = Protocol{
	Name:  "chat",
	Title: "OpenAI Chat Completions",
	Routes: []Route{
		{Method: "POST", Path: "/v1/chat/completions", Op: OpGenerate},
		{Method: "POST", Path: "/chat/completions", Op: OpGenerate},
		{Method: "GET", Path: "/v1/models", Op: OpAgents},
		{Method: "GET", Path: "/v1/models/{id}", Op: OpAgent},
	},
	BackendPath: "/v1/chat/completions",
	Probe:       modelsBeside,
	Forgets:     true,
	Speaks: Speech{
		Blocks: Blocks(BlockText, BlockReasoning, BlockRefusal, BlockToolCall),
		// Tool calls are told apart by their index, text and reasoning by
		// their fields: they may interleave.
		Overlap:      true,
		Logprobs:     Blocks(BlockText, BlockRefusal),
		OneReasoning: true,
	},
	AsksStream:  StreamAsAsked,
	TakesMarks:  true,
	CitesBeside: true,
	Options: []Option{
		{Name: "openai", Values: []string{"true", "false"}, Default: "false",
			Doc: "The backend is OpenAI's own: developer messages stay developer, the limit is max_completion_tokens, and detail: original and " +
				"prompt_cache_breakpoint go on. Otherwise they are system and max_tokens, which every server knows, high, and nothing."},
		{Name: "reasoning_history", Values: []string{"true", "false"}, Default: "false",
			Doc: "Earlier reasoning goes back to the backend as reasoning_content. Some models need it, others refuse it."},
		{Name: "request_usage", Values: []string{"true", "false"}, Default: "",
			Doc: "Ask for token counts in streams (stream_options.include_usage). By default only translated streams ask; true asks in " +
				"passed-through ones too and takes the count out again where the client had not asked; false is for servers that refuse the field."},
		{Name: "strict_finish", Values: []string{"true", "false"}, Default: "false",
			Doc: "A stream that ends with [DONE] but without finish_reason counts as cut off."},
	},
	Face:    chatFace{},
	Backend: chatBackend{},
}

// chatFace is Chat Completions in the role of the server.
type chatFace struct{}

// chatBackend is Chat Completions in the role of the client.
type chatBackend struct{}

var (
	_ Face        = chatFace{}
	_ Backend     = chatBackend{}
	_ Decoder     = (*completionDecoder)(nil)
	_ FrameFilter = (*completionDecoder)(nil)
	_ Encoder     = (*completionEncoder)(nil)
)

// DecodeRequest implements Face.
func (chatFace) DecodeRequest(in *Inbound) (*Request, *Error) {
	r := &Request{Face: &chatProtocol, Body: in.Body}
	if err := decodeChatRequest(r, in.Lazy); err != nil {
		return nil, err
	}
	return r, nil
}

// NewEncoder implements Face.
func (chatFace) NewEncoder(s *Setup) Encoder { return newCompletionEncoder(s, false) }

// AppendAnswer implements Face.
func (chatFace) AppendAnswer(dst []byte, s *Setup, f *Fold) []byte {
	return appendCompletion(dst, s, f, false)
}

// AppendError implements Face.
func (chatFace) AppendError(dst []byte, e *Error) []byte { return appendOpenAIError(dst, e) }

// AppendFailure implements Face.
func (chatFace) AppendFailure(dst []byte, e *Error, _ *Tap) []byte {
	return appendCompletionFailure(dst, e)
}

// AppendAgents implements Face.
func (chatFace) AppendAgents(dst []byte, op Op, agents []AgentInfo) []byte {
	return appendModels(dst, op, agents)
}

// NewDecoder implements Backend.
func (chatBackend) NewDecoder(s *Setup) Decoder { return newCompletionDecoder(s) }

// appendCompletionFailure ends a stream of chunks with an error. [DONE] follows
// because some clients wait for it; a finish_reason would make the failure a
// success.
func appendCompletionFailure(dst []byte, e *Error) []byte {
	dst = append(dst, "data: "...)
	dst = appendOpenAIError(dst, e)
	return append(dst, "\n\ndata: [DONE]\n\n"...)
}

// appendModels writes agents in the form of OpenAI's models.
func appendModels(dst []byte, op Op, agents []AgentInfo) []byte {
	if op == OpAgent || op == OpCard {
		return appendModel(dst, &agents[0])
	}
	dst = append(dst, `{"object":"list","data":[`...)
	for i := range agents {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendModel(dst, &agents[i])
	}
	return append(dst, "]}"...)
}

func appendModel(dst []byte, a *AgentInfo) []byte {
	dst = append(dst, `{"id":`...)
	dst = jsonx.AppendStringS(dst, a.Name)
	dst = append(dst, `,"object":"model","created":`...)
	dst = strconv.AppendInt(dst, a.Created, 10)
	return append(dst, `,"owned_by":"dragoman"}`...)
}
