package translate

import (
	"errors"
	"fmt"
	"math"
	"net/url"
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
	MaxTokensAt: []string{"max_output_tokens"},
	Speaks:      respSpeech,
	AsksStream:  StreamNever,
	TakesItems:  true,
	Threads:     ThreadsByAnswer,
	Handles:     func(*Agent) (made, owned bool) { return false, true },
	Options: []Option{
		{Name: "history", Values: []string{"fold", "refuse"}, Default: "fold",
			Doc: "what becomes of history and system prompts, for which the backend has no place: folded into the text, or refused"},
		{Name: "branch", Values: []string{"replay", "refuse"}, Default: "replay",
			Doc: "what becomes of a request that goes on from another answer than the latest of a conversation: all that was said up to there is folded into a new one, or it is refused"},
		{Name: "version", Check: cognipeerVersionOption, Doc: "the version of the agent to run where the client names none"},
	},
	NoDefaults: []string{"max_tokens", "temperature"},
	Face:       cognipeerFace{},
	Backend:    cognipeerBackend{},
}

type cognipeerFace struct{}

// The vendor's own words, in the order in which its server checks.
const (
	cognipeerNoAgent   = "Agent not found"
	cognipeerNoModel   = "model field is required and must contain the agent key"
	cognipeerNoVersion = "version must be a positive integer"
	cognipeerNoInput   = "input field is required (string or array of message items)"
)

// DecodeRequest implements Face. The vendor's server looks at the model and the
// version, then for the agent, and only then at the rest: with Inbound.Lazy the
// rest waits for Request.Complete, when the agent has been found. An empty model
// names no agent, not even the default one.
func (cognipeerFace) DecodeRequest(in *Inbound) (*Request, *Error) {
	r := &Request{Face: &cognipeerProtocol, Body: in.Body}
	doc := gjson.Parse(viewString(in.Body))
	model := doc.Get("model")
	if model.Type != gjson.String {
		return nil, Invalid(At("model"), cognipeerNoModel)
	}
	r.Model, r.Agent, r.AgentPath, r.AgentNamed = model.String(), model.String(), At("model"), true
	if v := doc.Get("version"); v.Type != gjson.Null {
		if n := jsNumber(v); !(n >= 1) {
			return nil, Invalid(At("version"), cognipeerNoVersion)
		}
		r.Set(ParamVersion, v.Raw, At("version"))
	}
	r.Stream = doc.Get("stream").Type == gjson.True
	rest := func() *Error { return cognipeerRest(r, doc.Get("input"), in.State) }
	if in.State {
		// A value that names no conversation there begins a new one.
		if id := doc.Get("previous_response_id"); id.Type == gjson.String && strings.HasPrefix(id.String(), "resp_") {
			r.Previous = id.String()
			r.check = func() *Error { // the input comes first
				alone := &Request{Face: r.Face, Body: r.Body, Previous: r.Previous}
				return cognipeerRest(alone, doc.Get("input"), true)
			}
		}
		if store := doc.Get("store"); store.IsBool() {
			r.Store = TriOf(store.Bool())
		}
	}
	if in.Lazy {
		r.later = rest
		return r, nil
	}
	if err := rest(); err != nil {
		return nil, err
	}
	return r, nil
}

// cognipeerRest reads what the vendor's server looks at when it has found the
// agent, the input before the conversation that it continues, and what the
// Responses API has beyond that.
func cognipeerRest(r *Request, input gjson.Result, state bool) *Error {
	noInput := func() *Error { return Invalid(At("input"), cognipeerNoInput) }
	if isArray := input.IsArray(); !isArray && input.Type != gjson.String || !isArray && input.Str == "" || isArray && input.Get("#").Int() == 0 {
		return noInput()
	}
	previous := ""
	d := respRequest{r: r}
	d.dialect = func(key string, v gjson.Result) (bool, *Error) {
		switch key {
		case "version":
		case "previous_response_id":
			if v.Type != gjson.Null && v.Type != gjson.String {
				return true, mistyped(At(key), respString)
			}
			previous = v.String()
		case "runtime_context":
			if v.IsObject() {
				r.Set(ParamRuntimeContext, v.Raw, At(key))
			} else if v.Type != gjson.Null {
				return true, mistyped(At(key), respObject)
			}
		default:
			return false, nil
		}
		return true, nil
	}
	if err := d.decode(); err != nil {
		return err
	}
	if err := d.decodeInput(); err != nil {
		return err
	}
	if !asksSomething(r) {
		return noInput()
	}
	switch {
	case strings.HasPrefix(previous, "resp_") && state: // found by now
	case strings.HasPrefix(previous, "resp_"):
		return respNeedsState(At("previous_response_id"))
	case previous != "":
		// It names no conversation there either: the answer begins a new one,
		// and the client is told so.
		r.Ledger.Drop(At("previous_response_id"))
	}
	e := d.refer(false)
	if e != nil && e.Code == "unsupported_parameter" && state {
		e.Message = fmt.Sprintf("'%s' is not supported by this API: what was said before is named by previous_response_id.", e.Param)
	}
	return e
}

// AppendTurn implements StateFace.
func (cognipeerFace) AppendTurn(dst []byte, r *Request, id func(prefix string, n int) string) []byte {
	return appendRespTurn(dst, r, id)
}

// jsNumber is Number(v) of JavaScript, with which the vendor's server reads a
// version: "2" and 1.5 are numbers.
func jsNumber(v gjson.Result) float64 {
	switch v.Type {
	case gjson.Number:
		return v.Num
	case gjson.True:
		return 1
	case gjson.False:
		return 0
	case gjson.String:
		s := strings.TrimSpace(v.String())
		if len(s) > 2 && s[0] == '0' {
			switch s[1] | 0x20 {
			case 'x', 'o', 'b':
				if n, err := strconv.ParseUint(s, 0, 64); err == nil && !strings.Contains(s, "_") {
					return float64(n)
				}
				return math.NaN()
			}
		}
		if s != "" && s != "Infinity" && s != "+Infinity" && strings.Trim(s, "+-.0123456789eE") != "" {
			return math.NaN() // Go knows more words for numbers
		}
		if n, err := strconv.ParseFloat(s, 64); err == nil {
			return n
		}
	}
	return math.NaN()
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

// AppendError implements Face: the error is a string, which has a message beside
// it where the vendor's server writes a single word.
func (cognipeerFace) AppendError(dst []byte, e *Error) []byte {
	word, message := e.ClientMessage(), ""
	switch {
	case e.Kind == KindNotFound && e.Code == "model_not_found" && !e.NoRetry:
		word = cognipeerNoAgent // an agent of ours, not a model of a backend's
	case e.Kind == KindUnauthenticated && !e.NoRetry: // of a key of ours; an agent's own words stay
		word, message = "Unauthorized", word
	case e.Kind == KindForbidden:
		word = "Forbidden: " + word
	case e.Code == "shutting_down":
		word, message = "Service is shutting down", word
	case e.Status == 503:
		word, message = "ServiceUnavailable", word
	}
	dst = append(dst, `{"error":`...)
	dst = jsonx.AppendStringS(dst, word)
	if message != "" {
		dst = append(dst, `,"message":`...)
		dst = jsonx.AppendStringS(dst, message)
	}
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

// FilterAgents implements AgentFilter: ?status= names the status that an agent
// must have, and all of ours are active.
func (cognipeerFace) FilterAgents(query string, agents []AgentInfo) []AgentInfo {
	values, _ := url.ParseQuery(query) // what cannot be read asks for nothing
	for _, status := range values["status"] {
		if status != "" && status != "active" {
			return nil
		}
	}
	return agents
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
	dst = append(append(dst, `,"temperature":`...), firstOf(a.Temperature, "null")...)
	dst = append(dst, `,"topP":null,"maxTokens":`...)
	if a.MaxTokens > 0 {
		dst = strconv.AppendInt(dst, a.MaxTokens, 10)
	} else {
		dst = append(dst, "null"...)
	}
	dst = append(dst, `},"status":"active","createdAt":"`...)
	dst = time.Unix(a.Created, 0).UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
	return append(dst, `"}`...)
}

type cognipeerBackend struct{}

// EncodeRequest implements Backend. The vendor's server reads the last user
// message and drops everything else without a word, so that the conversation is
// folded into that one text.
func (cognipeerBackend) EncodeRequest(dst []byte, r *Request, a *Agent, _ bool) ([]byte, *Error) {
	refuse := func(at Path) ([]byte, *Error) { return nil, Unsupported(at, a, cognipeerProtocol.Title) }
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
	text, history := foldHistory(r), clientHistory(r)
	switch {
	case text.Refused != nil:
		return refuse(text.Refused.Path)
	case len(text.Images) > 0:
		return refuse(text.Images[0].Path)
	case history != nil && a.Option("history", "fold") == "refuse":
		return refuse(history.Path)
	}
	oneTextLoses(r)

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
			version = r.Take(i)
		case ParamRuntimeContext:
			context = r.Take(i)
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
			if !r.idle(s) {
				r.Ledger.Drop(s.Path)
			}
		}
	}
	if version != "" {
		dst = append(dst, `,"version":`...)
		dst = respAppendJSON(dst, viewBytes(version))
	}
	if r.Handle != "" {
		dst = append(dst, `,"previous_response_id":`...)
		dst = jsonx.AppendStringS(dst, "resp_"+r.Handle)
	}
	if context != "" {
		dst = append(dst, `,"runtime_context":`...)
		dst = respAppendJSON(dst, viewBytes(context))
	}
	return append(dst, '}'), nil
}

// cognipeerVersion is the configured version, "" if there is none.
func cognipeerVersion(a *Agent) string {
	v := a.Option("version", "")
	if cognipeerVersionOption(v) != nil {
		return ""
	}
	return v
}

// cognipeerVersionOption judges a configured version, which is written as a
// number.
func cognipeerVersionOption(v string) error {
	if n, err := strconv.ParseUint(v, 10, 32); err != nil || n == 0 || v[0] == '0' {
		return errors.New("must be a positive integer")
	}
	return nil
}

// cognipeerEcho is the version that an answer tells where the agent which gave
// it has no such thing: the client's own word, raw JSON, else the first and only
// one.
func cognipeerEcho(asked string) string {
	if n := jsNumber(gjson.Parse(asked)); n >= 1 && !math.IsInf(n, 0) {
		return strconv.FormatFloat(n, 'f', -1, 64)
	}
	return "1"
}

// SpliceRequest implements Backend. The server reads no instructions, so that
// the default system prompt is put before the one text that it does read. It has
// no place for the other defaults.
func (cognipeerBackend) SpliceRequest(dst []byte, r *Request, a *Agent) ([]byte, *Error) {
	if err := r.Complete(); err != nil {
		return dst, err
	}
	r.Ledger = Ledger{} // all of it goes on as it is
	s := newSplice(r.Body)
	if a.Model != "" {
		s.set("model", quote(a.Model))
	}
	if v := cognipeerVersion(a); v != "" && s.get("version").Type == gjson.Null {
		s.set("version", v)
	}
	if len(r.History) > 0 {
		r.ApplyDefaults(a)
		text := foldHistory(r)
		switch history := clientHistory(r); {
		case text.Refused != nil:
			return dst, Unsupported(text.Refused.Path, a, cognipeerProtocol.Title)
		case len(text.Images) > 0:
			return dst, Unsupported(text.Images[0].Path, a, cognipeerProtocol.Title)
		case history != nil && a.Option("history", "fold") == "refuse":
			return dst, Unsupported(history.Path, a, cognipeerProtocol.Title)
		}
		s.set("input", quote(text.Text))
	}
	switch {
	case r.Handle != "":
		s.set("previous_response_id", quote("resp_"+r.Handle))
	case r.Previous != "":
		s.set("previous_response_id", "null")
	}
	if a.SystemPrompt != "" && !r.hasSystem() && !r.Continues() {
		if text := cognipeerReads(s.get("input")); text.Index > 0 {
			s.replace(text, quote(underSystem(a.SystemPrompt, text.String())))
		}
	}
	return s.append(dst), nil
}

// cognipeerReads is the one text of an input that the vendor's server reads: of
// items the last user's, and of its parts the first input_text.
func cognipeerReads(input gjson.Result) (text gjson.Result) {
	if input.Type == gjson.String {
		return input
	}
	var content gjson.Result
	input.ForEach(func(_, item gjson.Result) bool {
		if respText(item.Get("role")) == "user" {
			// Get's index would count from the item.
			item.ForEach(func(k, v gjson.Result) bool {
				if k.String() == "content" {
					content = v
				}
				return true
			})
		}
		return true
	})
	if content.Type == gjson.String {
		return content
	}
	content.ForEach(func(_, part gjson.Result) bool {
		if respText(part.Get("type")) != "input_text" {
			return true
		}
		part.ForEach(func(k, v gjson.Result) bool {
			if k.String() == "text" && v.Type == gjson.String {
				text = v
			}
			return true
		})
		return false
	})
	return text
}

// NewDecoder implements Backend.
func (cognipeerBackend) NewDecoder(s *Setup) Decoder {
	d := newRespDecoder(s)
	d.cognipeer = true
	return d
}
