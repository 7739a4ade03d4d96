package translate

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// cognipeerProtocol is the dialect of the Responses API that Cognipeer Console
// speaks: published agents under one path, drafts under the other, errors that
// are a string, no streaming. As a face it is a superset: it honours everything
// that the Responses API has and answers stream:true with its event stream.
var cognipeerProtocol = Protocol{
	Name:  "cognipeer",
	Title: "Cognipeer Console",
	Routes: []Route{
		{Method: "POST", Path: "/api/client/v1/responses", Op: OpGenerate},
		{Method: "POST", Path: "/api/client/v1/agents/responses", Op: OpGenerate},
		{Method: "GET", Path: "/api/client/v1/agents", Op: OpAgents},
		{Method: "GET", Path: "/api/client/v1/agents/{id}", Op: OpAgent},
	},
	BackendPath: "/api/client/v1/agents/responses",
	Speaks:      respSpeech,
	AsksStream:  StreamNever,
	TakesItems:  true,
	Options: []Option{
		{Name: "history", Values: []string{"fold", "refuse"}, Default: "fold",
			Doc: "what becomes of history and system prompts, for which the backend has no place: folded into the text, or refused"},
		{Name: "version", Doc: "the version of the agent to run where the client names none"},
	},
	Face:    cognipeerFace{},
	Backend: cognipeerBackend{},
}

type cognipeerFace struct{}

// The vendor's own words, in the order in which its server checks.
const (
	cognipeerNoModel   = "model field is required and must contain the agent key"
	cognipeerNoVersion = "version must be a positive integer"
	cognipeerNoInput   = "input field is required (string or array of message items)"
)

// DecodeRequest implements Face.
func (cognipeerFace) DecodeRequest(in *Inbound) (*Request, *Error) {
	d := respRequest{r: &Request{Face: &cognipeerProtocol, Body: in.Body}}
	doc := gjson.Parse(viewString(in.Body))
	if doc.Get("model").Type != gjson.String {
		return nil, Invalid(At("model"), cognipeerNoModel)
	}
	if v := doc.Get("version"); v.Type != gjson.Null {
		if !jsPositive(v) {
			return nil, Invalid(At("version"), cognipeerNoVersion)
		}
		d.r.Set(ParamVersion, v.Raw, At("version"))
	}
	previous := ""
	d.dialect = func(key string, v gjson.Result) (bool, *Error) {
		switch key {
		case "version":
		case "previous_response_id":
			previous = respText(v)
		case "runtime_context":
			if v.IsObject() {
				d.r.Set(ParamRuntimeContext, v.Raw, At(key))
			} else if v.Type != gjson.Null {
				return true, mistyped(At(key), respObject)
			}
		default:
			return false, nil
		}
		return true, nil
	}
	if err := d.decode(); err != nil {
		return nil, err
	}
	isArray := d.input.IsArray()
	if !isArray && d.input.Type != gjson.String || !isArray && d.input.Str == "" || isArray && d.input.Get("#").Int() == 0 {
		return nil, Invalid(At("input"), cognipeerNoInput)
	}
	if err := d.decodeInput(); err != nil {
		return nil, err
	}
	if !asksSomething(d.r) {
		return nil, Invalid(At("input"), cognipeerNoInput)
	}
	if err := d.stateless(); err != nil {
		return nil, err
	}
	// Any other value begins a new conversation, as it does there.
	if strings.HasPrefix(previous, "resp_") {
		return nil, respNeedsState(At("previous_response_id"))
	}
	return d.r, nil
}

// jsPositive reports whether Number(v) is at least one: "2" and 1.5 are.
func jsPositive(v gjson.Result) bool {
	n := math.NaN()
	switch v.Type {
	case gjson.Number:
		n = v.Num
	case gjson.True:
		n = 1
	case gjson.String:
		if f, err := strconv.ParseFloat(strings.TrimSpace(v.String()), 64); err == nil {
			n = f
		}
	}
	return n >= 1
}

// asksSomething reports whether there is a word of the user's, or the result of
// a tool, to answer.
func asksSomething(r *Request) bool {
	for i := range r.Turns {
		switch t := &r.Turns[i]; t.Role {
		case RoleTool:
			return true
		case RoleUser:
			for j := range t.Blocks {
				if t.Blocks[j].Type != BlockText || t.Blocks[j].Text != "" {
					return true
				}
			}
		}
	}
	return false
}

// NewEncoder implements Face.
func (cognipeerFace) NewEncoder(s *Setup) Encoder { return newRespEncoder(s) }

// AppendAnswer implements Face.
func (cognipeerFace) AppendAnswer(dst []byte, s *Setup, f *Fold) []byte {
	return appendRespAnswer(dst, s, f)
}

// AppendError implements Face: the error is a string. Two kinds have a word and
// a message beside it.
func (cognipeerFace) AppendError(dst []byte, e *Error) []byte {
	word := ""
	switch {
	case e.Kind == KindUnauthenticated:
		word = "Unauthorized"
	case e.Status == 503:
		word = "ServiceUnavailable"
	}
	dst = append(dst, `{"error":`...)
	if word == "" {
		dst = jsonx.AppendStringS(dst, e.ClientMessage())
		return append(dst, '}')
	}
	dst = jsonx.AppendStringS(dst, word)
	dst = append(dst, `,"message":`...)
	dst = jsonx.AppendStringS(dst, e.ClientMessage())
	return append(dst, '}')
}

// AppendFailure implements Face.
func (cognipeerFace) AppendFailure(dst []byte, e *Error, t *Tap) []byte {
	return appendRespFailure(dst, e, t)
}

// AppendAgents implements Face.
func (cognipeerFace) AppendAgents(dst []byte, op Op, agents []AgentInfo) []byte {
	if op != OpAgents {
		dst = append(dst, `{"agent":`...)
		dst = appendCognipeerAgent(dst, &agents[0])
		return append(dst, '}')
	}
	dst = append(dst, `{"agents":[`...)
	for i := range agents {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendCognipeerAgent(dst, &agents[i])
	}
	return append(dst, "]}"...)
}

func appendCognipeerAgent(dst []byte, a *AgentInfo) []byte {
	dst = append(dst, `{"key":`...)
	dst = jsonx.AppendStringS(dst, a.Name)
	dst = append(dst, `,"name":`...)
	dst = jsonx.AppendStringS(dst, a.Name)
	dst = append(dst, `,"description":`...)
	dst = jsonx.AppendStringS(dst, a.Description)
	dst = append(dst, `,"config":{"modelKey":`...)
	dst = jsonx.AppendStringS(dst, firstOf(a.Model, a.Name))
	dst = append(dst, `,"temperature":null,"topP":null,"maxTokens":null},"status":"active","createdAt":"`...)
	dst = time.Unix(a.Created, 0).UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
	return append(dst, `"}`...)
}

type cognipeerBackend struct{}

// EncodeRequest implements Backend. The vendor's server reads the last user
// message and drops everything else without a word, so that the conversation is
// folded into that one text.
func (cognipeerBackend) EncodeRequest(dst []byte, r *Request, a *Agent, _ bool) ([]byte, *Error) {
	refuse := func(at Path) ([]byte, *Error) { return nil, Unsupported(at, a, "cognipeer") }
	if f := &r.Format; f.Kind == FormatJSONObject || f.Kind == FormatJSONSchema {
		return refuse(f.Path)
	}
	if r.ToolChoice.Forces() {
		return refuse(r.ToolChoice.Path)
	}
	for i := range r.Tools {
		if r.Tools[i].Kind == ToolBuiltin {
			return refuse(r.Tools[i].Path.In("type"))
		}
	}
	for i := range r.Turns {
		for j := range r.Turns[i].Blocks {
			if b := &r.Turns[i].Blocks[j]; b.Type == BlockData && respNative(b.Native) {
				return refuse(b.Path.In("type"))
			}
		}
	}
	text := foldHistory(r)
	switch {
	case text.Refused != nil:
		return refuse(text.Refused.Path)
	case len(text.Images) > 0:
		return refuse(text.Images[0].Path)
	case text.History != nil && a.Option("history", "fold") == "refuse":
		return refuse(text.History.Path)
	}
	for i := range r.Tools {
		r.Ledger.Drop(r.Tools[i].Path)
	}

	dst = append(dst, `{"model":`...)
	dst = jsonx.AppendStringS(dst, a.BackendModel(r))
	dst = append(dst, `,"input":`...)
	dst = jsonx.AppendStringS(dst, text.Text)
	version := cognipeerVersion(a)
	context := ""
	for i := range r.Settings {
		s := &r.Settings[i]
		switch s.Param {
		case ParamVersion:
			version = s.Raw
		case ParamRuntimeContext:
			context = s.Raw
		case ParamN:
			if n, err := strconv.ParseFloat(s.Raw, 64); err != nil || n > 1 {
				return refuse(s.Path)
			}
		case ParamAudio, ParamWebSearch, ParamPrompt:
			return refuse(s.Path)
		case ParamModalities:
			if strings.Contains(s.Raw, "audio") {
				return refuse(s.Path)
			}
		default:
			r.Ledger.Drop(s.Path)
		}
	}
	if version != "" {
		dst = append(dst, `,"version":`...)
		dst = respAppendJSON(dst, viewBytes(version))
	}
	if context != "" {
		dst = append(dst, `,"runtime_context":`...)
		dst = respAppendJSON(dst, viewBytes(context))
	}
	return append(dst, '}'), nil
}

// cognipeerVersion is the configured version as JSON, "" if there is none.
func cognipeerVersion(a *Agent) string {
	v := a.Option("version", "")
	if v == "" {
		return ""
	}
	if n, err := strconv.ParseUint(v, 10, 32); err == nil {
		return strconv.FormatUint(n, 10)
	}
	return quote(v)
}

// SpliceRequest implements Backend.
func (cognipeerBackend) SpliceRequest(dst []byte, r *Request, a *Agent) ([]byte, *Error) {
	s := newSplice(r.Body)
	if a.Model != "" {
		s.set("model", quote(a.Model))
	}
	if v := cognipeerVersion(a); v != "" && s.get("version").Type == gjson.Null {
		s.set("version", v)
	}
	// The server has no place for the other defaults.
	for _, d := range [...]struct {
		name string
		set  bool
	}{
		{"defaults.system_prompt", a.SystemPrompt != ""},
		{"defaults.max_tokens", a.MaxTokens > 0},
		{"defaults.temperature", a.Temperature != ""},
	} {
		if d.set {
			r.Ledger.Note(d.name)
		}
	}
	return s.append(dst), nil
}

// NewDecoder implements Backend.
func (cognipeerBackend) NewDecoder(s *Setup) Decoder {
	d := newRespDecoder(s)
	d.cognipeer = true
	return d
}
