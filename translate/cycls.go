package translate

import (
	"net/url"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
	"github.com/dragoman-proxy/dragoman/internal/sse"
)

// Cycls streams typed components: one JSON object an event, {"type": T, …},
// and data: [DONE] at the end. Consecutive components of one type are pieces
// of one. The package's versions differ in paths and in details; where they do,
// the comments below say which version does what (.140 is cycls 0.0.2.140). The
// server is copied into each agent's image, so that all versions are in the
// field; what the older ones stream instead of typed components is in
// cycls_era.go.
//
// As a face we send a chat_id only where conversations are kept, although the server
// always sends one from .127 on: its web client keeps the id, sends ?id= with only the
// newest message the next time, and otherwise the history would be lost in silence.
var cyclsProtocol = Protocol{
	Name:  "cycls",
	Title: "Cycls",
	Routes: []Route{
		{Method: "POST", Path: "/chat/cycls", Op: OpGenerate},
		{Method: "POST", Path: "/chat", Op: OpGenerate},
		{Method: "POST", Path: "/", Op: OpGenerate},
		{Method: "GET", Path: "/config", Op: OpCard},
	},
	// /chat/cycls is the only native path of .64 to .115 and gone (405) from
	// .116 on; /chat came with .119; / alone speaks the protocol in .116 to
	// .118. On a 404 or 405 the agent has not run, so trying on is safe. The
	// order matters: POST / of the versions that have /chat/cycls is another
	// protocol, raw text.
	BackendPath:  "/chat",
	Probe:        func(string) string { return "/config" },
	BackendPaths: []string{"/chat/cycls", "/chat", "/"},
	Forgets:      true,
	Speaks: Speech{
		Blocks: Blocks(BlockText, BlockReasoning, BlockToolCall, BlockToolResult, BlockImage, BlockCode, BlockTable,
			BlockCallout, BlockStatus, BlockStep, BlockData),
		Ran:          true,
		OneReasoning: true,
	},
	AsksStream: StreamAlways,
	Spells:     true,
	Threads:    ThreadsByClient,
	Handles:    func(a *Agent) (made, owned bool) { return true, a.Option("history", "messages") == "id" },
	Query:      cyclsQuery,

	KeepsAnswers: true,
	Options: []Option{
		{Name: "era", Values: []string{"auto", "typed", "array", "text", "chat"}, Default: "auto",
			Doc: "What the agent's version of cycls streams. typed: components, {\"type\": …} (0.0.2.65 and newer). array: [\"+\", name, …] (.64). " +
				"text: plain text without events (.30 to .63, and POST / up to .115); a clean end is then success, because that protocol has no end of its own. " +
				"chat: the chunks of /chat/completions, for which path must be set. auto tells by the first line, and takes an answer of text that begins " +
				"with an event (data: and JSON to the end of the line, or a comment) for an event stream; an empty answer says nothing of its era and counts " +
				"as broken off, while with text it is an empty answer."},
		{Name: "history", Values: []string{"messages", "id"}, Default: "messages",
			Doc: "What an agent hears of a conversation that the proxy keeps: the whole history with every message, or the newest message alone with ?id=, for agents that keep " +
				"their chats themselves; then only the latest answer can be gone on from."},
		{Name: "public_url",
			Doc: "The address at which clients reach the agent's files: relative image and file addresses are resolved against it."},
	},
	NoDefaults: []string{"max_tokens", "temperature"},
	Face:       cyclsCodec{},
	Backend:    cyclsCodec{},
}

// cyclsCodec is Cycls in both roles.
type cyclsCodec struct{}

// cyclsDone ends every stream, also one that told an error.
const cyclsDone = "data: [DONE]\n\n"

// cyclsQuery hands on a Cycls client's conversation id. Clients of other
// protocols send the whole history, for which an id would only be a lock: from
// .141 on the server runs one request an id at a time and answers 409 to the
// next.
func cyclsQuery(r *Request, _ *Agent) string {
	if r.Handle != "" {
		return "id=" + url.QueryEscape(r.Handle)
	}
	if r.Face == nil || r.Face.Name != "cycls" || r.ConversationID == "" || r.Kept { // what we keep goes along with every request
		return ""
	}
	return "id=" + url.QueryEscape(r.ConversationID)
}

// AppendError implements Face: FastAPI's {"detail":"…"}. Who shows no credential
// gets the server's own words, which clients know.
func (cyclsCodec) AppendError(dst []byte, e *Error) []byte {
	if e.Kind == KindUnauthenticated && !e.NoRetry { // an agent's own words stay
		return append(dst, `{"detail":"Not authenticated"}`...)
	}
	if e.Code == "run_in_progress" && !e.NoRetry { // from .141 on
		dst = append(dst, `{"error":"run_in_progress","chat_id":`...)
		dst = jsonx.AppendStringS(dst, e.Param)
		return append(dst, `,"detail":"This chat is still working on your last message."}`...)
	}
	dst = append(dst, `{"detail":`...)
	dst = jsonx.AppendStringS(dst, e.ClientMessage())
	return append(dst, '}')
}

// AppendTurn implements StateFace: the messages as the client sent them.
func (cyclsCodec) AppendTurn(dst []byte, r *Request, _ func(prefix string, n int) string) []byte {
	messages := gjson.Get(viewString(r.Body), "messages")
	n := len(dst)
	messages.ForEach(func(_, m gjson.Result) bool {
		if len(dst) > n {
			dst = append(dst, ',')
		}
		dst = append(dst, m.Raw...)
		return true
	})
	return dst
}

// appendCyclsID writes the event that tells the conversation's id.
func appendCyclsID(dst []byte, k *Keep) []byte {
	dst = append(append(append(dst, `data: {"type": "`...), k.Announce...), `", "`...)
	dst = append(append(dst, k.Announce...), `": `...)
	dst = jsonx.AppendStringS(dst, k.ID)
	return append(dst, "}\n\n"...)
}

// AppendEdited implements Editor: the backend's name for the conversation is not the client's.
func (d *cyclsDecoder) AppendEdited(dst []byte, f *sse.Frame, _ bool) []byte {
	k := d.s.Keep
	if k == nil || len(f.Data) == 0 {
		return append(dst, f.Raw...)
	}
	if !d.announced {
		d.announced = true
		if k.Announce != "" {
			dst = appendCyclsID(dst, k)
		}
	}
	if f.Data[0] == '{' {
		switch respText(gjson.GetBytes(f.Data, "type")) {
		case "chat_id", "session_id":
			return dst
		}
	}
	return append(dst, f.Raw...)
}

// AppendEditedBody implements Editor.
func (d *cyclsDecoder) AppendEditedBody(dst, body []byte) []byte { return append(dst, body...) }

// AppendFailure implements Face. What the client got last is not known here:
// the separator keeps the callout from being merged into one before it. A callout
// of the agent's own server that the client has seen is not repeated.
func (cyclsCodec) AppendFailure(dst []byte, e *Error, t *Tap) []byte {
	if t != nil && t.Told {
		return append(dst, cyclsDone...)
	}
	dst = append(dst, cyclsSeparator...)
	id := ""
	if t != nil {
		id = t.ID
	}
	return appendCyclsFailure(dst, e, id)
}

// appendCyclsFailure writes a failure as the server does from .145 on: a
// callout with an error_id, by which clients tell it from an agent's own
// callout, then the end. The id is the first eight hexadecimal digits of seed,
// or is made of the message where there is no seed.
func appendCyclsFailure(dst []byte, e *Error, seed string) []byte {
	dst = append(dst, `data: {"type": "callout", "callout": `...)
	dst = jsonx.AppendStringS(dst, e.ClientMessage())
	dst = append(dst, `, "style": "error", "error_id": "`...)
	if len(seed) >= 8 && strings.Trim(seed[:8], "0123456789abcdef") == "" {
		dst = append(dst, seed[:8]...)
	} else {
		h := uint32(2166136261) // FNV-1a
		for i := range len(e.Message) {
			h = (h ^ uint32(e.Message[i])) * 16777619
		}
		for shift := 28; shift >= 0; shift -= 4 {
			dst = append(dst, "0123456789abcdef"[h>>shift&15])
		}
	}
	dst = append(dst, "\"}\n\n"...)
	return append(dst, cyclsDone...)
}

// AppendAgents implements Face: the /config object of the server, by which its
// web client is set up and which is its readiness probe. auth stays false: true
// would make the client sign in at the vendor's identity provider.
func (cyclsCodec) AppendAgents(dst []byte, op Op, agents []AgentInfo) []byte {
	list := op == OpAgents
	if list {
		dst = append(dst, '[')
	}
	for i := range agents {
		if i > 0 {
			dst = append(dst, ',')
		}
		a := &agents[i]
		dst = append(dst, `{"public_path":null,"name":`...)
		dst = jsonx.AppendStringS(dst, a.Name)
		dst = append(dst, `,"pass_metadata":null,"title":`...)
		dst = jsonx.AppendStringS(dst, a.Name)
		if a.Description != "" {
			dst = append(dst, `,"description":`...)
			dst = jsonx.AppendStringS(dst, a.Description)
		}
		dst = append(dst, `,"prod":false,"auth":false,"cms":null,"analytics":false,"suggestions":false,"voice":false,"pk":null}`...)
		if !list {
			break
		}
	}
	if list {
		dst = append(dst, ']')
	}
	return dst
}

// cyclsField is a member of a component that we read.
type cyclsField uint8

// The members, in no particular order.
const (
	cyNone cyclsField = iota
	cyType
	cyText
	cyThinking
	cyCode
	cyLanguage
	cyCallout
	cyStyle
	cyTitle
	cyErrorID
	cyHeaders
	cyRow
	cyRows
	cyImage
	cyImageURL
	cySrc
	cyAlt
	cyCaption
	cyFile
	cyPath
	cyName
	cyStatus
	cyStep
	cyToolName
	cyID
	cyDelta
	cyOK
	cyResult
	cyData
	cyTool
	cyArgs
	cyContent
	cyChatID
	cySessionID

	numCyclsFields
)

func cyclsFieldOf(key []byte) cyclsField {
	switch string(key) {
	case "type":
		return cyType
	case "text":
		return cyText
	case "thinking":
		return cyThinking
	case "code":
		return cyCode
	case "language":
		return cyLanguage
	case "callout":
		return cyCallout
	case "style":
		return cyStyle
	case "title":
		return cyTitle
	case "error_id":
		return cyErrorID
	case "headers":
		return cyHeaders
	case "row":
		return cyRow
	case "rows":
		return cyRows
	case "image":
		return cyImage
	case "image_url":
		return cyImageURL
	case "src":
		return cySrc
	case "alt":
		return cyAlt
	case "caption":
		return cyCaption
	case "file":
		return cyFile
	case "path":
		return cyPath
	case "name":
		return cyName
	case "status":
		return cyStatus
	case "step":
		return cyStep
	case "tool_name":
		return cyToolName
	case "id":
		return cyID
	case "delta":
		return cyDelta
	case "ok":
		return cyOK
	case "result":
		return cyResult
	case "data":
		return cyData
	case "tool":
		return cyTool
	case "args":
		return cyArgs
	case "content":
		return cyContent
	case "chat_id":
		return cyChatID
	case "session_id":
		return cySessionID
	}
	return cyNone
}
