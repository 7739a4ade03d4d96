package translate

import (
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// decodeSwarmsHistory reads the earlier turns: a list of entries, or an object
// whose members are entries or plain texts, in the order in which they stand.
func decodeSwarmsHistory(r *Request, history gjson.Result) *Error {
	if swarmsAbsent(history) {
		return nil
	}
	if !history.IsArray() && !history.IsObject() {
		return Invalid(At("history"), "'history' must be a list or an object of messages.")
	}
	var err *Error
	h := swarmsHistory{r: r}
	i := 0
	history.ForEach(func(k, v gjson.Result) bool {
		at := AtIndex("history", i)
		i++
		if err = r.room(At("history")); err != nil {
			return false
		}
		switch {
		case v.IsObject():
			err = h.entry(v, at)
		case v.Type == gjson.Null:
		case v.Type == gjson.String && history.IsObject():
			// The server of 2025 put such members before the task as "key:\nvalue".
			text := k.String() + ":\n" + v.String()
			r.Turns = append(r.Turns, Turn{Role: RoleUser, Path: at, Blocks: []Block{{Type: BlockText, Text: text, Path: at}}})
		default:
			err = Invalid(at, "'%s' must be an object with role and content.", at)
		}
		return err == nil
	})
	h.close()
	return err
}

// entry reads one {role, content}. The documents know the roles
// user and assistant; the entries of an answer, which clients send back, carry
// the agent's name instead, and its tool calls in the place of a text. A role
// "tool", which the vendor lacks, brings the result of such a call.
func (h *swarmsHistory) entry(v gjson.Result, at Path) *Error {
	r := h.r
	var role, content, callID, toolCalls, name gjson.Result
	t := Turn{Path: at}
	v.ForEach(func(k, v gjson.Result) bool {
		switch k.String() {
		case "role":
			role = v
		case "content":
			content = v
		case "tool_call_id":
			callID = v
		case "tool_calls":
			toolCalls = v
		case "name":
			name = v
		// The entries of an answer have these.
		case "timestamp":
			r.Ledger.Drop(at.Sub("timestamp", -1))
		case "message_id":
			r.Ledger.Drop(at.Sub("message_id", -1))
		case "category":
			r.Ledger.Drop(at.Sub("category", -1))
		default:
			r.Ledger.Unknown(1)
		}
		return true
	})
	if role.Type != gjson.String {
		p := at.Sub("role", -1)
		return Invalid(p, "'%s' must be a string.", p)
	}
	if err := aString.checkMembers(v, at, "name", "tool_call_id"); err != nil {
		return err
	}
	t.Name = name.String()
	p := at.Sub("content", -1)
	switch name := role.String(); {
	case swarmsIsUser(name):
	case strings.EqualFold(name, "system"):
		t.Role = RoleSystem
	case strings.EqualFold(name, "developer"):
		t.Role = RoleDeveloper
	case strings.EqualFold(name, "assistant"):
		t.Role = RoleAssistant
	case swarmsIsTool(name):
		if content.Type == gjson.String {
			if id := h.answer(callID.String()); id != "" {
				t.Role = RoleTool
				t.Blocks = []Block{{Type: BlockToolResult, CallID: id, Text: content.String(), Path: p}}
				r.Turns = append(r.Turns, t)
				return nil
			}
		}
		t.Role, t.Author = RoleAssistant, name
	default:
		t.Role = RoleAssistant
		if name != r.Agent || r.AgentPath.Mid != "agent_name" { // not the one that is asked now
			t.Author = name
		}
	}
	if !swarmsAbsent(callID) {
		r.Ledger.Drop(at.Sub("tool_call_id", -1))
	}
	calls, isCalls := swarmsCalls(content)
	if !isCalls || t.Role != RoleAssistant {
		if isCalls = false; !swarmsAbsent(content) && content.Type != gjson.String && content.Type != gjson.JSON {
			return Invalid(p, "'%s' must be a string.", p)
		}
		if text := swarmsContent(content); text != "" || content.Type == gjson.String {
			t.Blocks = []Block{{Type: BlockText, Text: text, Path: p}}
		}
		// As Chat Completions has them, beside the text.
		p = at.Sub("tool_calls", -1)
		if calls = nil; t.Role == RoleAssistant {
			calls, _ = swarmsCalls(toolCalls)
		}
	}
	if (isCalls || len(calls) == 0) && !swarmsAbsent(toolCalls) && !swarmsEmpty(toolCalls) {
		r.Ledger.Drop(at.Sub("tool_calls", -1))
	}
	for i, c := range calls {
		if err := r.room(p); err != nil {
			return err
		}
		id := c.id
		if id == "" {
			id = "call_" + strconv.Itoa(len(r.Turns)) + "_" + strconv.Itoa(i)
		}
		t.Blocks = append(t.Blocks, Block{Type: BlockToolCall, CallID: id, Name: c.name, Text: c.args, Path: p})
	}
	if len(t.Blocks) == 0 {
		return nil
	}
	h.know(&t)
	r.Turns = append(r.Turns, t)
	return nil
}

func swarmsIsUser(role string) bool {
	return strings.EqualFold(role, "user") || strings.EqualFold(role, "human")
}

// swarmsIsTool knows the roles of tool results; the vendor's framework writes
// "Tool Executor".
func swarmsIsTool(role string) bool {
	return strings.EqualFold(role, "tool") || strings.EqualFold(role, "tool executor") || strings.EqualFold(role, "function")
}

// swarmsHistory reads the history. It keeps the tool calls in it, so that
// results find theirs.
type swarmsHistory struct {
	r     *Request
	calls []swarmsOpen
	byID  map[string]int // the latest call of an id
	due   int            // calls before it are answered
}

// swarmsOpen is the place of a tool call.
type swarmsOpen struct {
	turn, block int
	answered    bool
}

// answer finds the call that a result answers: the one of that id, or, without
// an id, the first that has no result yet. "" if there is none.
func (h *swarmsHistory) answer(id string) string {
	i, ok := h.byID[id]
	if id == "" {
		for h.due < len(h.calls) && h.calls[h.due].answered {
			h.due++
		}
		i, ok = h.due, h.due < len(h.calls)
	}
	if !ok || h.calls[i].answered {
		return ""
	}
	h.calls[i].answered = true
	return h.block(i).CallID
}

func (h *swarmsHistory) block(call int) *Block {
	return &h.r.Turns[h.calls[call].turn].Blocks[h.calls[call].block]
}

// know notes the calls of the turn that comes next.
func (h *swarmsHistory) know(t *Turn) {
	for i := range t.Blocks {
		if t.Blocks[i].Type != BlockToolCall {
			continue
		}
		if h.byID == nil {
			h.byID = map[string]int{}
		}
		h.byID[t.Blocks[i].CallID] = len(h.calls)
		h.calls = append(h.calls, swarmsOpen{turn: len(h.r.Turns), block: i})
	}
}

// close makes text of the calls that have no result: clients of this protocol
// tell results in their next task, and other backends refuse a call that stays
// open.
func (h *swarmsHistory) close() {
	for i := range h.calls {
		if !h.calls[i].answered {
			b := h.block(i)
			*b = Block{Type: BlockText, Text: string(appendSwarmsCall(nil, b)), Path: b.Path}
		}
	}
}
