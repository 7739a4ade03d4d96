package translate

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dragoman-proxy/dragoman/internal/sse"
)

// Op is what a request asks for, whatever protocol it came in.
type Op uint8

// The operations a route can stand for.
const (
	OpGenerate Op = iota // run the agent and answer
	OpBatch              // run several requests of one body, each for itself (BatchFace)
	OpAgents             // list the agents the caller may use
	OpAgent              // describe one agent
	OpCard               // describe the agent that serves this address (Cycls GET /config)
	OpHealth             // the protocol's own health route
	OpLimits             // tell the caller's own limits (LimitsFace)

	// What was kept (KeptFace).

	OpResponse           // fetch an answer
	OpDeleteResponse     // delete it
	OpCancelResponse     // end one that runs in the background
	OpInputItems         // list what it was asked with
	OpNewConversation    // make a conversation
	OpConversation       // fetch it
	OpSetConversation    // change it
	OpDeleteConversation // delete it
	OpItems              // list its items
	OpAddItems           // add some
	OpItem               // fetch one
	OpDeleteItem         // delete one
)

// Route is one path of a face. Path is matched exactly, on the raw bytes of
// the request; segments may be {id}, {name} and behind it {item}, which match any one
// segment without a slash.
type Route struct {
	Method string
	Path   string
	Op     Op
}

// Protocol is one wire protocol in both of its roles. The registry holds one
// of each; they are never copied or changed.
type Protocol struct {
	// Name is the word the configuration uses.
	Name string
	// Title names the protocol for people.
	Title string
	// Routes are the paths its clients call.
	Routes []Route
	// BackendPath is where a backend listens when the configuration is silent.
	// {id} stands for the agent's id, which is the model.
	BackendPath string
	// Probe is the path of a GET that costs a backend nothing and says that it is there, given the path where its agent is
	// called; empty, or nil: there is none.
	Probe func(path string) string
	// BackendPaths are the paths tried in turn on 404 and 405 when the
	// configuration is silent; the first that is served is remembered. nil:
	// BackendPath alone.
	BackendPaths []string
	// Speaks says which block types a client of the protocol has words for;
	// what is missing is rendered as Markdown or dropped by the render stage.
	Speaks Speech
	// Forgets says that answers of the protocol repeat nothing of the request but its
	// model: while one streams, an outline of the request is kept and not all of it.
	Forgets bool
	// Query makes the raw query string of a backend's request; nil: none.
	Query func(r *Request, a *Agent) string
	// AsksStream says what a backend of this protocol can be asked for.
	AsksStream StreamMode
	// Spells says that its agents may stream a letter an event. Such deltas are
	// gathered for the client (Answer.Hold).
	Spells bool
	// TakesItems says that EncodeRequest itself sees to the Essential data blocks of
	// a client whose protocol takes items too; all others Encode refuses.
	TakesItems bool
	// TakesMarks says that EncodeRequest itself sees to what a conversation is
	// marked with beside its content: phases, citations, logprobs, an unfinished
	// item's status, breakpoints of a prompt cache. For all others Encode notes
	// them in the ledger.
	TakesMarks bool
	// CitesBeside says that its messages have their citations beside the content,
	// as a Chat message does, and not in the part that they belong to.
	CitesBeside bool
	// Threads says how its clients name what was said before, where the proxy keeps it.
	Threads Threads
	// Handles reports whether an agent of it keeps conversations of its own, which can go on in place of their history, and
	// whether it is told their names instead of giving them; nil: none does.
	Handles func(a *Agent) (made, owned bool)
	// Options documents the switches of agents[].options for a backend of this
	// protocol.
	Options []Option
	// MaxTokensAt are where its requests bound the length of the answer, for faces
	// that decode that only when the agent is known.
	MaxTokensAt []string
	// NoDefaults are the members of agents[].defaults that a backend of this
	// protocol has no word for.
	NoDefaults []string
	// KeepsAnswers says that answers are kept as AppendAnswer writes them, whatever the client
	// gets; else the encoder sees to it.
	KeepsAnswers bool

	Face
	Backend
}

// Encode appends the body for a backend of protocol p, another one than the
// client's: the agent's defaults are filled in, what the backend has no words for
// goes to r.Ledger or, where that would change the meaning, is the error.
//
// It answers for what no encoder can be trusted never to forget: a setting that
// EncodeRequest has not taken is in the ledger afterwards.
func (p *Protocol) Encode(dst []byte, r *Request, a *Agent, stream bool) ([]byte, *Error) {
	if e := r.Complete(); e != nil {
		return dst, e
	}
	if r.Continues() { // the backend has heard its system prompt, and knows the calls
		silent := *a
		silent.SystemPrompt = ""
		r.ApplyDefaults(&silent)
	} else {
		r.ApplyDefaults(a)
	}
	if e := p.refuse(r, a); e != nil {
		return dst, e
	}
	if !r.Continues() {
		if e := r.orphan(); e != nil {
			return dst, e
		}
	}
	r.settle()
	if !p.TakesMarks {
		r.dropMarks()
	}
	out, e := p.EncodeRequest(dst, r, a, stream)
	if e != nil {
		return dst, e
	}
	for i := range r.Settings {
		if r.lost(i) {
			r.Ledger.Drop(r.Settings[i].Path)
		}
	}
	if r.Store == Yes && !r.stored && !r.Kept {
		r.Ledger.Drop(At("store"))
	}
	return out, nil
}

// refuse finds what only a backend of the client's own protocol could honour:
// formats and items of a vendor's own, and the tools that its server runs.
func (p *Protocol) refuse(r *Request, a *Agent) *Error {
	if r.Format.Kind == FormatOther {
		return Unsupported(r.Format.Path.In("type"), a, p.Title)
	}
	if p.TakesItems && r.Face != nil && r.Face.TakesItems {
		return nil
	}
	for i := range r.Turns {
		for j := range r.Turns[i].Blocks {
			b := &r.Turns[i].Blocks[j]
			if e := p.refuseBlock(b, a); e != nil {
				return e
			}
			for k := range b.Parts { // of a tool's result
				if e := p.refuseBlock(&b.Parts[k], a); e != nil {
					return e
				}
			}
		}
	}
	for i := range r.Tools {
		if t := &r.Tools[i]; t.Kind == ToolBuiltin {
			e := Unsupported(t.Path.In("type"), a, p.Title)
			e.Message = fmt.Sprintf("'%s' is not supported: agent %q speaks the %s protocol, which has no built-in tool %q.",
				e.Param, a.Name, p.Title, cleanMessage(t.Name))
			return e
		}
	}
	if c := &r.ToolChoice; c.Mode == ChoiceNamed && c.Kind == ToolBuiltin {
		return Unsupported(c.Path.In("type"), a, p.Title)
	}
	for i := range r.ToolChoice.Tools {
		if t := &r.ToolChoice.Tools[i]; t.Kind == ToolBuiltin {
			return Unsupported(t.Path.In("type"), a, p.Title)
		}
	}
	return nil
}

// refuseBlock is refuse for a block that the agent must understand.
func (p *Protocol) refuseBlock(b *Block, a *Agent) *Error {
	switch {
	case !b.Essential:
	case b.Type == BlockData:
		return Unsupported(b.Path.In("type"), a, p.Title)
	case b.Type == BlockImage || b.Type == BlockFile:
		return Unsupported(b.Path, a, p.Title)
	}
	return nil
}

// Threads is how clients of a protocol name what was said before.
type Threads uint8

// The ways.
const (
	ThreadsNone     Threads = iota // not at all: they send all of it
	ThreadsByTurn                  // each answer has an id, and any of them can be gone on from
	ThreadsByAnswer                // the id of every answer is that of its conversation, which goes on at its end
	ThreadsByClient                // the client names the conversation (Cycls ?id=)
)

// StreamMode says whether a backend can be asked for a stream.
type StreamMode uint8

// A backend's ways to answer.
const (
	StreamAsAsked StreamMode = iota // as the client asked
	StreamNever                     // JSON only: Cognipeer, Ticos
	StreamAlways                    // a stream only: Cycls
)

// Option is one switch of agents[].options.
type Option struct {
	Name    string
	Values  []string // allowed values; empty: any text
	Default string
	Doc     string
	// Check says what is wrong with a value; nil: nothing is.
	Check func(value string) error
}

// Speech says what a face has words for.
type Speech struct {
	// Blocks are the types that the encoder takes. Content of another type
	// reaches it as text, activity of another type does not reach it.
	Blocks BlockSet
	// Ran says that the encoder takes tool calls which the backend has run
	// itself (Event.Block.Ran), and their results.
	Ran bool
	// Overlap says that open blocks may interleave; otherwise the serial stage
	// stands before the encoder.
	Overlap bool
	// Phase says that the encoder tells commentary from the final answer;
	// otherwise commentary reaches it as reasoning.
	Phase bool
	// Logprobs are the types whose deltas the encoder takes with their logprobs.
	Logprobs BlockSet
	// OneReasoning says that the protocol has one channel for reasoning: of raw
	// and summary only the kind seen first is sent.
	OneReasoning bool
}

// Inbound is a client's request as a face decodes it.
type Inbound struct {
	Route  *Route
	ID     string // what {id} matched
	Query  string // raw query string
	Accept string // Accept header: only Cycls decides by it
	Body   []byte // valid JSON of bounded depth; borrowed by the Request
	// Lazy allows the face to leave the conversation for Request.Complete, and
	// with it its objections to whatever does not say where to send the request or
	// how to answer it: a request that is passed through needs neither. Encode
	// completes the request.
	Lazy bool
	// State says that answers are kept, so that the request may refer to them.
	State bool
}

// Face is a protocol in the role of the server: it reads a client's requests
// and writes its answers.
type Face interface {
	// DecodeRequest reads a generate request. The error, if any, is a 400 that
	// names the field.
	DecodeRequest(in *Inbound) (*Request, *Error)
	// NewEncoder makes the encoder of a streamed answer.
	NewEncoder(s *Setup) Encoder
	// AppendAnswer writes a whole JSON answer. The Fold is complete and did
	// not fail.
	AppendAnswer(dst []byte, s *Setup, f *Fold) []byte
	// AppendError writes the body of an HTTP error.
	AppendError(dst []byte, e *Error) []byte
	// AppendFailure ends a passed-through stream of this protocol that was cut:
	// what a client must get to know that it failed. A frame is complete before
	// it.
	AppendFailure(dst []byte, e *Error, t *Tap) []byte
	// AppendAgents writes the answer of the listing operations. For OpAgent and
	// OpCard agents has exactly one element.
	AppendAgents(dst []byte, op Op, agents []AgentInfo) []byte
}

// Backend is a protocol in the role of the client: it asks an agent and reads
// its answers.
type Backend interface {
	// EncodeRequest appends the body for a backend of this protocol. What
	// cannot be carried goes to r.Ledger; what would change the meaning of the
	// request is the error. stream is what the backend is asked for. A setting is
	// taken with r.Take; Protocol.Encode puts those that were not into the ledger.
	EncodeRequest(dst []byte, r *Request, a *Agent, stream bool) ([]byte, *Error)
	// SpliceRequest appends r.Body, which is of this protocol, with the
	// permitted edits and nothing else.
	SpliceRequest(dst []byte, r *Request, a *Agent) ([]byte, *Error)
	// NewDecoder makes the decoder of one answer.
	NewDecoder(s *Setup) Decoder
}

// Setup is what encoders and decoders know about the exchange they serve.
type Setup struct {
	Request *Request
	Agent   *Agent
	// Seed is 32 hexadecimal digits; the ids of the answer are made of it.
	Seed string
	// Now gives the time for timestamps in the answer.
	Now func() time.Time
	// Ledger takes what the answer loses.
	Ledger *Ledger
	// Created is Now at the beginning, in Unix seconds.
	Created int64
	// Keep is how the answer is kept; nil: it is not.
	Keep *Keep

	// Decoded and Encoded, if set, watch the events behind the decoder and
	// before the encoder. They serve tests.
	Decoded, Encoded *Checker

	version string    // of the agent that answered, where it has such a thing (Cognipeer)
	costs   [2]string // img_cost and total_cost as the backend told them, JSON numbers (Swarms)
}

// ID makes the nth id of the answer under a prefix: msg_, then the seed, then
// n in two or more hexadecimal digits. A negative n is the id of the answer
// itself, the prefix and the seed.
func (s *Setup) ID(prefix string, n int) string { return string(s.AppendID(nil, prefix, n)) }

// AppendID appends what ID returns.
func (s *Setup) AppendID(dst []byte, prefix string, n int) []byte {
	dst = append(append(dst, prefix...), s.Seed...)
	if n >= 0 {
		if n < 16 {
			dst = append(dst, '0')
		}
		dst = strconv.AppendInt(dst, int64(n), 16)
	}
	return dst
}

// Model is the model's name in translated answers: the client's own word, the
// agent's name where it gave none.
func (s *Setup) Model() string {
	if s.Request != nil && s.Request.Model != "" {
		return s.Request.Model
	}
	if s.Agent != nil {
		return s.Agent.Name
	}
	return ""
}

// Agent is the configuration of a backend as far as translation needs it.
type Agent struct {
	Name string
	// Model is what the backend is told; empty: the client's own word.
	Model string
	// SystemPrompt, MaxTokens and Temperature are filled in where the client
	// was silent: "" , 0 and "" mean no default. Temperature is JSON number
	// text.
	SystemPrompt string
	MaxTokens    int64
	Temperature  string
	// Options are the protocol's switches, checked by CheckOption.
	Options map[string]string
}

// Option returns a switch's value, or def where the configuration is silent.
func (a *Agent) Option(name, def string) string {
	if v, ok := a.Options[name]; ok {
		return v
	}
	return def
}

// BackendModel is what the backend is told: the configured model, else the
// client's own word, else the agent's name.
func (a *Agent) BackendModel(r *Request) string {
	switch {
	case a.Model != "":
		return a.Model
	case r.Model != "":
		return r.Model
	}
	return a.Name
}

// AgentInfo is an agent as listings show it.
type AgentInfo struct {
	Name        string
	Description string
	Protocol    string
	Model       string
	Created     int64 // Unix seconds
	// MaxTokens and Temperature are the agent's defaults, 0 and "" if it has none.
	MaxTokens   int64
	Temperature string // JSON number text
}

// AgentFilter is implemented by a Face whose listing takes a query.
type AgentFilter interface {
	// FilterAgents returns those of the agents that the raw query asks for. It may
	// change the slice.
	FilterAgents(query string, agents []AgentInfo) []AgentInfo
}

// Decoder turns one answer of a backend into events. A stream is fed frame by
// frame and then ended; a JSON answer is fed whole, once.
type Decoder interface {
	// Frame decodes one frame of a stream. Comments (Data and Event nil) may
	// come too.
	Frame(f *sse.Frame, out Sink)
	// Finishing reports that the answer is complete and only its terminator or
	// late usage is missing: the caller need not wait long for it.
	Finishing() bool
	// End says that no more frames come: cause is nil after a clean end of the
	// body, else what cut it off. It emits the Finish that was held back or a
	// Fail, unless one of them went out already.
	End(cause *Error, out Sink)
	// JSON decodes a whole answer, from Start to Finish or Fail. body is valid
	// JSON of bounded depth.
	JSON(body []byte, out Sink)
}

// FrameFilter is implemented by a Decoder that must keep frames of a
// passed-through stream from the client, because the client had not asked for
// them (a usage chunk). Keep is asked after Frame.
type FrameFilter interface {
	Keep(f *sse.Frame) bool
}

// Sequencer is implemented by a Decoder whose protocol numbers its events.
type Sequencer interface {
	// LastSeq is the last number seen, -1 if none.
	LastSeq() int64
}

// Encoder writes a streamed answer.
type Encoder interface {
	// Encode appends what the client must get for e. It keeps nothing of e.
	// A Fail is written as the protocol's failure in a stream that has begun.
	Encode(dst []byte, e *Event) []byte
}

// Sink takes events. e and all it refers to are valid until Event returns.
type Sink interface {
	Event(e *Event)
}

// Tap is what is known of a passed-through stream when it has to be ended with
// a failure.
type Tap struct {
	ID      string // of the answer
	Model   string
	Created int64
	Seq     int64    // last sequence number seen, -1 if none
	Request *Request // what was asked
	Keep    *Keep    // how the answer would have been kept, nil if it would not
	// Told says that the backend itself has told the failure in what passed
	// through: only the protocol's end is missing.
	Told bool
}

// modelsBeside is the list of models of a server whose endpoint is at path.
func modelsBeside(path string) string {
	for _, endpoint := range []string{"/chat/completions", "/responses"} {
		if before, ok := strings.CutSuffix(path, endpoint); ok && !strings.Contains(before, "{id}") {
			return before + "/models"
		}
	}
	return ""
}
