package translate

import (
	"strings"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// ticosProtocol is the Ticos dialect: the path of the Responses API, content
// parts of Chat as the input, and a chat completion as the answer. It is put
// together from the pieces of Chat.
var ticosProtocol = Protocol{
	Name:  "ticos",
	Title: "Ticos",
	Routes: []Route{
		{Method: "POST", Path: "/v1/agents/{id}/responses", Op: OpGenerate},
	},
	BackendPath: "/v1/agents/{id}/responses",
	Speaks: Speech{
		// A refusal has no field of its own here, so it is text.
		Blocks:       Blocks(BlockText, BlockReasoning, BlockToolCall),
		Overlap:      true,
		OneReasoning: true,
	},
	AsksStream:  StreamNever,
	CitesBeside: true,
	Options: []Option{
		{Name: "history", Values: []string{"fold", "refuse"}, Default: "fold",
			Doc: "Ticos takes a single input: the conversation and the system prompt are folded into its text, or refused with a 400."},
	},
	NoDefaults: []string{"max_tokens", "temperature"},
	Face:       ticosFace{},
	Backend:    ticosBackend{},
}

// ticosFace is Ticos in the role of the server.
type ticosFace struct{}

// ticosBackend is Ticos in the role of the client.
type ticosBackend struct{}

var (
	_ Face    = ticosFace{}
	_ Backend = ticosBackend{}
)

// DecodeRequest implements Face.
func (ticosFace) DecodeRequest(in *Inbound) (*Request, *Error) {
	r := &Request{Face: &ticosProtocol, Body: in.Body, Model: in.ID, Agent: in.ID, AgentPath: At("agent id")}
	if err := decodeTicosRequest(r); err != nil {
		return nil, err
	}
	return r, nil
}

// NewEncoder implements Face. The vendor's server does not stream; a client
// that asks ours for a stream gets chat chunks.
func (ticosFace) NewEncoder(s *Setup) Encoder { return newCompletionEncoder(s, true) }

// AppendAnswer implements Face.
func (ticosFace) AppendAnswer(dst []byte, s *Setup, f *Fold) []byte {
	return appendCompletion(dst, s, f, true)
}

// AppendError implements Face.
func (ticosFace) AppendError(dst []byte, e *Error) []byte { return appendOpenAIError(dst, e) }

// AppendFailure implements Face.
func (ticosFace) AppendFailure(dst []byte, e *Error, _ *Tap) []byte {
	return appendCompletionFailure(dst, e)
}

// AppendAgents implements Face. Ticos has no listing of its own.
func (ticosFace) AppendAgents(dst []byte, op Op, agents []AgentInfo) []byte {
	return appendModels(dst, op, agents)
}

// decodeTicosRequest reads {"input": …}: a text, the address of an image, or
// content parts. More than that (instructions, a whole conversation as the
// input, stream) is taken as an extension.
func decodeTicosRequest(r *Request) *Error {
	root := gjson.Parse(viewString(r.Body))
	if !root.IsObject() {
		return Invalid(At(""), "The request body must be a JSON object.")
	}
	var input, instructions gjson.Result
	var err *Error
	root.ForEach(func(k, v gjson.Result) bool {
		if v.Type == gjson.Null {
			return true
		}
		switch k.String() {
		case "input":
			input = v
		case "instructions":
			instructions = v
			err = aString.check(v, At("instructions"))
		case "stream":
			r.Stream = v.Bool()
			err = aBoolean.check(v, At("stream"))
		case "stream_options":
			err = decodeStreamOptions(r, v)
		default:
			r.Ledger.Unknown(1)
		}
		return err == nil
	})
	if err != nil {
		return err
	}
	if s := instructions.String(); s != "" {
		at := At("instructions")
		r.Turns = append(r.Turns, Turn{Role: RoleSystem, Instructions: true, Path: at, Blocks: []Block{{Type: BlockText, Text: s, Path: at}}})
	}
	at := At("input")
	turn := Turn{Role: RoleUser, Path: at}
	switch {
	case !input.Exists(), input.Type == gjson.String && input.Str == "":
		return missing(at)
	case input.Type == gjson.String:
		b := Block{Type: BlockText, Text: input.String(), Path: at}
		if isImageURL(b.Text) {
			b = Block{Type: BlockImage, URL: b.Text, Path: at}
		}
		turn.Blocks = []Block{b}
	case !input.IsArray():
		e := Invalid(at, "'input' must be a string or an array of content parts.")
		e.Code = "invalid_type"
		return e
	case input.Get("0.role").Exists():
		return decodeMessages(r, input, "input")
	default:
		j := 0
		input.ForEach(func(_, part gjson.Result) bool {
			if err = r.room(at); err == nil {
				turn.Blocks, err = decodePart(r, turn.Blocks, part, AtIndex("input", j))
			}
			j++
			return err == nil
		})
		if err != nil {
			return err
		}
		if j == 0 {
			e := Invalid(at, "'input' must hold at least one content part.")
			e.Code = "empty_array"
			return e
		}
	}
	r.Turns = append(r.Turns, turn)
	return nil
}

// isImageURL reports whether a text is the address of an image and nothing
// else, which Ticos then looks at.
func isImageURL(s string) bool {
	if !isURL(s) || s != strings.TrimSpace(s) {
		return false
	}
	if hasScheme(s, "data:") {
		return hasScheme(s, "data:image/")
	}
	if i := strings.IndexAny(s, "?#"); i >= 0 {
		s = s[:i]
	}
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return false
	}
	switch strings.ToLower(s[i+1:]) {
	case "png", "jpg", "jpeg", "gif", "webp", "bmp":
		return true
	}
	return false
}

// isURL reports whether a text is an address and nothing else.
func isURL(s string) bool {
	s = strings.TrimSpace(s)
	if !hasScheme(s, "http://") && !hasScheme(s, "https://") && !hasScheme(s, "data:") {
		return false
	}
	return !strings.ContainsAny(s, " \t\r\n")
}

func hasScheme(s, scheme string) bool {
	return len(s) >= len(scheme) && strings.EqualFold(s[:len(scheme)], scheme)
}

// EncodeRequest implements Backend.
func (ticosBackend) EncodeRequest(dst []byte, r *Request, a *Agent, _ bool) ([]byte, *Error) {
	if err := ticosRefuses(r, a); err != nil {
		return dst, err
	}
	f, history := foldHistory(r), clientHistory(r)
	switch {
	case f.Refused != nil:
		return dst, Unsupported(f.Refused.Path, a, ticosProtocol.Title)
	case history != nil && a.Option("history", "fold") == "refuse":
		return dst, Unsupported(history.Path, a, ticosProtocol.Title)
	}
	ticosDrops(r)
	dst = append(dst, `{"input":`...)
	// A text that is nothing but an address might be taken for an image's: as a
	// part it is a text.
	if len(f.Images) == 0 && !isURL(f.Text) {
		dst = jsonx.AppendStringS(dst, f.Text)
		return append(dst, '}'), nil
	}
	var blocks []Block
	switch {
	case f.History == nil:
		blocks = r.Turns[0].Blocks // one message: its parts in their order
	case f.Text == "":
		blocks = f.Images
	default:
		blocks = append([]Block{{Type: BlockText, Text: f.Text}}, f.Images...)
	}
	ask := chatAsk{r: r, a: a, dst: dst, title: ticosProtocol.Title}
	ask.parts(blocks)
	if ask.err != nil {
		return dst[:len(dst)-len(`{"input":`)], ask.err
	}
	return append(ask.dst, '}'), nil
}

// ticosRefuses finds the first thing that Ticos has no place for and that the
// request would mean something else without.
func ticosRefuses(r *Request, a *Agent) *Error {
	refuse := func(at Path) *Error { return Unsupported(at, a, ticosProtocol.Title) }
	for i := range r.Settings {
		switch s := &r.Settings[i]; s.Param {
		case ParamN, ParamModalities, ParamAudio, ParamPrompt, ParamWebSearch:
			return refuse(s.Path)
		}
	}
	for i := range r.Tools {
		if r.Tools[i].Kind == ToolBuiltin {
			return refuse(r.Tools[i].Path)
		}
	}
	if r.ToolChoice.Forces() {
		return refuse(r.ToolChoice.Path)
	}
	if r.Format.Kind == FormatJSONObject || r.Format.Kind == FormatJSONSchema {
		return refuse(r.Format.Path)
	}
	return nil
}

// ticosDrops notes what Ticos has no place for and the answer can do without.
func ticosDrops(r *Request) {
	for i := range r.Settings {
		if s := &r.Settings[i]; !r.idle(s) {
			r.Ledger.Drop(s.Path)
		}
	}
	oneTextLoses(r)
}

// SpliceRequest implements Backend. The agent's id is in the path. Ticos knows
// the input of a single message only: what our face takes beyond it, and the
// default system prompt, is folded into the input.
func (b ticosBackend) SpliceRequest(dst []byte, r *Request, a *Agent) ([]byte, *Error) {
	r.ApplyDefaults(a)
	if len(r.Turns) == 1 && r.Turns[0].Path == At("input") {
		ticosDrops(r)
		return append(dst, r.Body...), nil
	}
	folded, err := b.EncodeRequest(nil, r, a, false)
	if err != nil {
		return dst, err
	}
	s := newSplice(r.Body)
	s.set("input", string(folded[len(`{"input":`):len(folded)-1]))
	return s.append(dst), nil
}

// NewDecoder implements Backend. A backend that streams after all sends chat
// chunks.
func (ticosBackend) NewDecoder(s *Setup) Decoder { return newCompletionDecoder(s) }
