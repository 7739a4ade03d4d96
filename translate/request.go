package translate

import (
	"slices"
	"strconv"

	"github.com/tidwall/gjson"
)

// Request is a client's request in the neutral form. Its strings borrow from
// Body.
type Request struct {
	// Face is the protocol it came in by.
	Face *Protocol
	// Agent is the name by which the request itself names its agent ("" if it
	// names none); AgentPath says where.
	Agent     string
	AgentPath Path
	// AgentNamed says that the request names its agent even if Agent is empty: then
	// there is no such agent, and the default one does not serve it.
	AgentNamed bool
	// Model is the client's word for the model, "" if absent.
	Model string
	// Stream says that the client wants a stream.
	Stream bool
	// IncludeUsage says that a Chat client asked for the usage chunk.
	IncludeUsage bool
	// NeedsUsage says that the proxy itself counts tokens: a backend that tells
	// its usage only when asked is asked, and a client that did not ask is not
	// told.
	NeedsUsage bool
	// ConversationID is the client's name for the conversation (Cycls ?id=).
	ConversationID string
	// Store is the client's own word on storing the answer.
	Store Tri
	// Previous is the answer that the request goes on from, Conversation the conversation
	// object that it belongs to, References the ids of kept items in its input. Background
	// says that its answer must outlive it. What they refer to is found by the proxy, which
	// fills in History and Items before the request is completed.
	Previous, Conversation string
	References             []string
	Background             bool
	// History is what was said before, oldest first, and Items what References stand for: raw
	// items of the face's own history, those of a turn with commas between them.
	History []string
	Items   map[string]string
	// Lone says that the client has sent a single message of the user's and leaves the rest to the
	// server; Announce is the type of the event that tells it the conversation's id, "" for none.
	Lone     bool
	Announce string
	// check looks at what the client says now, where that must be right before what it refers to is looked for.
	check func() *Error
	// Handle is the backend's own name of the conversation, "" where it keeps none; Goes says that
	// the backend has heard what was said before, so that History is empty.
	Handle string
	Goes   bool
	// Truncated says that truncation was seen to.
	Truncated bool
	// Kept says that the proxy keeps the answer: the backend is not asked to.
	Kept bool

	Turns      []Turn
	Tools      []Tool
	ToolChoice ToolChoice
	Format     Format
	Settings   []Setting

	// Body is the request as it came.
	Body []byte
	// Ledger takes what cannot be carried to the backend.
	Ledger Ledger

	callNames map[string]string // of the calls in Turns, by call id
	byCall    map[string]callAt // the latest call of an id, while the turns are read
	byTool    map[string]callAt // and of a tool
	items     int               // room has been given to
	offers    map[string]int    // the first of Tools of a name, where they are many
	later     func() *Error     // decodes what Inbound.Lazy left
	fault     *Error            // why the request cannot be translated
	taken     []bool            // the Settings that the encoder has written
	stored    bool              // the encoder has written Store
}

// Complete decodes what Inbound.Lazy left: the conversation, which only
// translation needs. The error is the first thing in the request that
// translation cannot make sense of, which is none of the proxy's business where
// the bytes pass untouched.
func (r *Request) Complete() *Error {
	if later := r.later; later != nil {
		r.later = nil
		r.blame(later())
	}
	return r.fault
}

// Continues reports whether the backend goes on in a conversation of its own.
func (r *Request) Continues() bool { return r.Handle != "" && r.Goes }

// Check is what is wrong with what the client says now, in a protocol that looks at that before it looks for what was
// said before.
func (r *Request) Check() *Error {
	if check := r.check; check != nil {
		r.check = nil
		return check()
	}
	return nil
}

// blame keeps the first fault of a request for Complete.
func (r *Request) blame(e *Error) {
	if r.fault == nil {
		r.fault = e
	}
}

// TakeStore is the client's own word on storing, for an encoder that passes it
// on.
func (r *Request) TakeStore() Tri {
	r.stored = true
	return r.Store
}

// Tri is a boolean that may be absent.
type Tri int8

// The values of a Tri.
const (
	Unset Tri = 0
	Yes   Tri = 1
	No    Tri = -1
)

// TriOf returns Yes or No.
func TriOf(b bool) Tri {
	if b {
		return Yes
	}
	return No
}

// Path is a place in the client's request, built without formatting it:
// Base[I].Mid[J].Leaf, where I and J are left out if negative and empty words
// are skipped.
type Path struct {
	Base string
	I    int
	Mid  string
	J    int
	Leaf string
}

// At is the path of a top-level field.
func At(base string) Path { return Path{Base: base, I: -1, J: -1} }

// AtIndex is the path of an element of a top-level array.
func AtIndex(base string, i int) Path { return Path{Base: base, I: i, J: -1} }

// Sub is the path of a field, or of an element of an array (j ≥ 0) in it.
func (p Path) Sub(mid string, j int) Path {
	if p.Mid != "" || p.Leaf != "" {
		p.Leaf = mid
		return p
	}
	p.Mid, p.J = mid, j
	return p
}

// In is the path of a field below p.
func (p Path) In(leaf string) Path {
	if p.Leaf != "" {
		leaf = p.Leaf + "." + leaf
	}
	p.Leaf = leaf
	return p
}

// String formats the path as JSON tools write it: messages[2].content[1].
func (p Path) String() string {
	s := p.Base
	if p.I >= 0 {
		s += "[" + strconv.Itoa(p.I) + "]"
	}
	if p.Mid != "" {
		s += "." + p.Mid
		if p.J >= 0 {
			s += "[" + strconv.Itoa(p.J) + "]"
		}
	}
	if p.Leaf != "" {
		s += "." + p.Leaf
	}
	return s
}

// Role is who speaks in a turn.
type Role uint8

// The roles of the neutral model.
const (
	RoleUser Role = iota
	RoleAssistant
	RoleSystem
	RoleDeveloper
	RoleTool
)

var roleNames = [...]string{"user", "assistant", "system", "developer", "tool"}

// String is the role's name as Chat Completions spells it.
func (r Role) String() string { return roleNames[r] }

// Turn is one message of the conversation. A tool result is a turn of its own
// with RoleTool and one block; the calls it answers stand in the assistant
// turn before it.
type Turn struct {
	Role   Role
	Name   string // the participant's name, where the client gave one
	Author string // in answers: which of several agents spoke
	Phase  Phase
	ID     string
	Blocks []Block
	// Instructions marks the Responses API's instructions, which a
	// continuation does not inherit.
	Instructions bool
	Path         Path
}

// Phase tells commentary from the final answer.
type Phase uint8

// The phases of an assistant's message.
const (
	PhaseNone Phase = iota
	PhaseCommentary
	PhaseFinal
)

// String is the phase as the Responses API spells it, "" for none.
func (p Phase) String() string { return [...]string{"", "commentary", "final_answer"}[p] }

// BlockType is what a block of content or activity is.
type BlockType uint8

// The block types of the neutral model. Text to File and Code to Callout are
// content; the rest is activity, or a call to the client.
const (
	BlockText BlockType = iota
	BlockReasoning
	BlockRefusal
	BlockToolCall
	BlockToolResult
	BlockImage
	BlockFile
	BlockAudio
	BlockCode
	BlockTable
	BlockCallout
	BlockStatus
	BlockStep
	BlockData

	numBlockTypes
)

var blockNames = [numBlockTypes]string{
	"text", "reasoning", "refusal", "tool_call", "tool_result", "image", "file", "audio",
	"code", "table", "callout", "status", "step", "data",
}

// String is the name of the type, as the ledger and tests write it.
func (t BlockType) String() string { return blockNames[t] }

// BlockSet is a set of block types.
type BlockSet uint32

// Blocks makes a set.
func Blocks(types ...BlockType) BlockSet {
	var s BlockSet
	for _, t := range types {
		s |= 1 << t
	}
	return s
}

// Has reports whether t is in the set.
func (s BlockSet) Has(t BlockType) bool { return s&(1<<t) != 0 }

// ContentBlocks are the types that belong to what the agent says: where a face
// has no word for one it is rendered as Markdown.
const ContentBlocks = BlockSet(1<<BlockText | 1<<BlockRefusal | 1<<BlockImage | 1<<BlockFile |
	1<<BlockCode | 1<<BlockTable | 1<<BlockCallout)

// Block is one piece of a turn, of a client's request or of a folded answer;
// in a BlockStart event it describes the block that opens (Text is empty
// there). Which fields count depends on Type.
type Block struct {
	Type BlockType

	// Text is the text of a text, reasoning, refusal, code, callout, status or
	// step block; the arguments (JSON text) or input of a tool call; the output
	// of a tool result; the JSON of a data block.
	Text string
	// Summary tells a reasoning summary from raw reasoning.
	Summary bool
	// Custom says that a tool call's or result's tool is a custom (free text)
	// one.
	Custom bool
	// Ran says that the backend has executed this call itself: it is activity,
	// never the client's to run.
	Ran bool
	// IsError says that a tool result reports an error.
	IsError bool
	// Essential says that leaving a data block out of a request would change
	// its meaning, or that an image or a file has an address that only a backend
	// of the client's own protocol can find.
	Essential bool

	ID       string // the item's own id, where the protocol has one
	CallID   string // of a tool call and of its result
	Name     string // of a tool, a step, a data block; a file's name
	Language string // of code
	Style    string // of a callout: info, warning, error, success
	Title    string // of a callout
	Headers  string // of a table: a JSON array of strings
	Rows     []string
	URL      string // of an image or a file: http(s):, data:, or relative
	Alt      string
	Caption  string
	Data     string // of audio or a file: base64
	MIME     string
	FileID   string
	Detail   string // of an image

	// Parts are the parts of a tool result that is not plain text.
	Parts []Block
	// Logprobs and Annotations are raw JSON arrays, "" if none.
	Logprobs    string
	Annotations []string
	// CacheBreakpoint is the mark of a prompt cache at the end of the block, raw
	// JSON (prompt_cache_breakpoint of both OpenAI APIs).
	CacheBreakpoint string
	// Opaque is what the backend gave to be handed back (encrypted reasoning,
	// a signature).
	Opaque string
	// Native is the block as its own protocol wrote it, raw JSON; only a file
	// of that protocol reads it.
	Native string

	Status EndStatus
	Path   Path
	// Inner is the object within the part that holds its members, where the
	// client's protocol has one: image_url, file.
	Inner string
}

// At is the path of a member of the block, as the client's protocol writes it: in
// Chat the detail of an image is image_url.detail.
func (b *Block) At(member string) Path {
	if b.Inner != "" {
		member = b.Inner + "." + member
	}
	return b.Path.In(member)
}

// EndStatus is how a block ended.
type EndStatus uint8

// The ends of a block.
const (
	StatusComplete EndStatus = iota
	StatusIncomplete
	StatusFailed
)

// String is the status as the Responses API spells it.
func (s EndStatus) String() string {
	return [...]string{"completed", "incomplete", "failed"}[s]
}

// Tool is a tool that the client offers.
type Tool struct {
	Kind        ToolKind
	Name        string
	Description string
	Parameters  string // JSON Schema, raw; "" if absent
	Strict      Tri
	// StrictByDefault says that Strict was left out on a face where that means
	// strict (Responses: the schema is normalised); elsewhere it means not strict.
	StrictByDefault bool
	Grammar         ToolGrammar // of a custom tool
	// Raw is the tool as the client wrote it; a built-in tool has nothing else.
	Raw  string
	Path Path
}

// ToolKind tells functions, custom tools and the vendor's built-in ones apart.
type ToolKind uint8

// The kinds of tools.
const (
	ToolFunction ToolKind = iota
	ToolCustom
	ToolBuiltin // Name is its type: web_search, file_search, …
)

// ToolGrammar is the input format of a custom tool: Type is "", "text" or
// "grammar".
type ToolGrammar struct {
	Type       string
	Syntax     string
	Definition string
}

// ToolChoice says which tools the model may or must call.
type ToolChoice struct {
	Mode   ChoiceMode
	Kind   ToolKind // of the named tool
	Name   string   // for ChoiceNamed
	Tools  []Tool   // for ChoiceAllowed: Kind and Name
	Forced bool     // for ChoiceAllowed: mode "required"
	Path   Path
}

// ChoiceMode is the form of a tool choice.
type ChoiceMode uint8

// The forms of a tool choice.
const (
	ChoiceUnset ChoiceMode = iota
	ChoiceNone
	ChoiceAuto
	ChoiceRequired
	ChoiceNamed
	ChoiceAllowed
)

// Forces reports whether the choice obliges the model to call a tool: carrying
// on without it would change the meaning of the request.
func (c *ToolChoice) Forces() bool {
	return c.Mode == ChoiceRequired || c.Mode == ChoiceNamed || c.Mode == ChoiceAllowed && c.Forced
}

// Format is the form that the answer's text must have.
type Format struct {
	Kind        FormatKind
	Name        string
	Description string
	Schema      string // raw JSON
	Strict      Tri
	Path        Path
}

// FormatKind is the kind of an output format.
type FormatKind uint8

// The output formats.
const (
	FormatUnset FormatKind = iota
	FormatText
	FormatJSONObject
	FormatJSONSchema
	// FormatOther is a vendor's own format, of type Format.Name: it goes through
	// to a backend of the client's protocol, and Encode refuses it for others.
	FormatOther
)

// maxItems is how many messages, content parts, calls, citations, tools and so on a
// request may have that is translated. What one becomes in the neutral form takes
// many times the bytes of the smallest one in JSON: without a limit a body of the
// allowed size could take a gigabyte.
const maxItems = 1 << 15

// room is the error that the request has more items than are translated, at the
// list that has them; nil while it has not.
func (r *Request) room(at Path) *Error {
	if r.items++; r.items <= maxItems {
		return nil
	}
	e := Invalid(at, "'%s' holds too much to be translated: a request may have %d messages, parts, calls and tools in all.", at, maxItems)
	e.Code = "too_many_items"
	return e
}

// OffersTool reports whether the client offered a function or custom tool of
// that name.
func (r *Request) OffersTool(name string) bool { return r.offer(name) != nil }

// offer is the function or custom tool that the client offered under that name,
// nil if there is none.
func (r *Request) offer(name string) *Tool {
	const few = 16
	if len(r.Tools) > few && r.offers == nil {
		r.offers = make(map[string]int, len(r.Tools))
		for i := range slices.Backward(r.Tools) {
			if r.Tools[i].Kind != ToolBuiltin {
				r.offers[r.Tools[i].Name] = i
			}
		}
	}
	if r.offers != nil {
		if i, ok := r.offers[name]; ok {
			return &r.Tools[i]
		}
		return nil
	}
	for i := range r.Tools {
		if r.Tools[i].Name == name && r.Tools[i].Kind != ToolBuiltin {
			return &r.Tools[i]
		}
	}
	return nil
}

// ApplyDefaults fills in what the agent's configuration says where the client
// was silent. It serves translated requests; SpliceRequest does the same by
// splicing.
func (r *Request) ApplyDefaults(a *Agent) {
	if a.SystemPrompt != "" && !r.hasSystem() {
		turns := make([]Turn, 0, len(r.Turns)+1)
		turns = append(turns, Turn{
			Role: RoleSystem, Path: At("defaults.system_prompt"),
			Blocks: []Block{{Type: BlockText, Text: a.SystemPrompt, Path: At("defaults.system_prompt")}},
		})
		r.Turns = append(turns, r.Turns...)
	}
	if _, ok := r.Setting(ParamMaxTokens); !ok && a.MaxTokens > 0 {
		r.Set(ParamMaxTokens, strconv.FormatInt(a.MaxTokens, 10), At("defaults.max_tokens"))
	}
	if _, ok := r.Setting(ParamTemperature); !ok && a.Temperature != "" {
		r.Set(ParamTemperature, a.Temperature, At("defaults.temperature"))
	}
}

func (r *Request) hasSystem() bool {
	for i := range r.Turns {
		if r.Turns[i].Role == RoleSystem || r.Turns[i].Role == RoleDeveloper {
			return true
		}
	}
	return false
}

// PlainText joins the text blocks of a turn, and reports whether it has
// nothing else.
func (t *Turn) PlainText() (string, bool) {
	if len(t.Blocks) == 1 && t.Blocks[0].Type == BlockText {
		return t.Blocks[0].Text, true
	}
	s, only := "", true
	for i := range t.Blocks {
		if t.Blocks[i].Type == BlockText {
			s += t.Blocks[i].Text
		} else {
			only = false
		}
	}
	return s, only
}

// rest notes the members of an object beyond those that were read: by their
// names those that we know, which is what names lists, the others by number.
func (r *Request) rest(v gjson.Result, at Path, read, names []string) {
	if !v.IsObject() {
		return
	}
	n := 0
	v.ForEach(func(k, m gjson.Result) bool {
		switch key := k.String(); {
		case m.Type == gjson.Null || slices.Contains(read, key):
		case slices.Contains(names, key):
			r.Ledger.Drop(at.In(key))
		default:
			n++
		}
		return true
	})
	r.Ledger.Unknown(n)
}
