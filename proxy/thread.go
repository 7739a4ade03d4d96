package proxy

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tidwall/gjson"
	"go.uber.org/zap"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
	"github.com/dragoman-proxy/dragoman/internal/state"
	"github.com/dragoman-proxy/dragoman/ratelimit"
	"github.com/dragoman-proxy/dragoman/translate"
)

// thread is what a call has to do with a kept conversation: what it goes on from, and
// where its own answer is kept.
type thread struct {
	keep  translate.Keep
	keeps bool // the answer is to be kept

	conv, name string     // the conversation, and the turn that the answer makes
	before     string     // the turn that it goes on from, "" for none
	turns      []keptTurn // what was said before, oldest first
	items      map[string]keptItem
	agent      string // which answered last
	replaces   []state.Ref
	said       []byte // what the client says, as it is kept
	native     bool   // the backend keeps what the request goes on from
	recalled   bool
	handle     *handle // of the backend's own conversation; nil: it has none
	unlock     func()  // gives the conversation to the next request; nil: it was not taken
}

// keptTurn is a kept turn: what a client said, and what an agent answered.
type keptTurn struct {
	name, prev string
	agent      string // that served it
	by         string // that answered: another where that one fell back
	handle     string // the backend's own conversation
	at         int64
	status     string // "" of a whole one; queued, failed or cancelled in the background
	in, out    string // items with commas between them
}

// keptItem is an item that a request refers to by its id.
type keptItem struct {
	raw string
	by  string // the agent that made it, "" for a client's
}

const (
	convSize = 32 // hexadecimal digits in the name of a conversation
	turnSize = 16 // and of a turn
)

// refers reports whether a request refers to what was kept.
func refers(r *translate.Request) bool {
	return r.Previous != "" || r.Conversation != "" || len(r.References) > 0
}

// keeping is how the answer is kept, nil if it is not.
func (t *thread) keeping() *translate.Keep {
	if t == nil || !t.keeps {
		return nil
	}
	return &t.keep
}

// served is the agent that answered last in what the request refers to, "" if it refers to
// nothing.
func (t *thread) served() string {
	if t == nil {
		return ""
	}
	return t.agent
}

// namesAgent reports whether the request itself says which agent is to serve it.
func (c *call) namesAgent() bool {
	return c.match.named || c.req.Agent != "" && c.lookup(c.req.Agent) != nil
}

// forget gives up what was said before, which may be long: no agent is told of it again.
func (t *thread) forget(r *translate.Request) {
	if t == nil || len(t.turns) == 0 && len(t.items) == 0 {
		return
	}
	t.turns, t.items = nil, nil
	r.History, r.Items, r.Turns = nil, nil, nil
}

// owner is whom a call's conversations belong to.
func (c *call) owner() string { return c.who.Name }

// hexID is random hexadecimal text.
func hexID(digits int) string {
	var raw [convSize / 2]byte
	_, _ = rand.Read(raw[:digits/2])
	return hex.EncodeToString(raw[:digits/2])
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// splitID takes an id of ours apart: a prefix that ends in an underscore, the
// conversation, the turn, and for an item its number.
func splitID(id string) (conv, name string, ok bool) {
	at := len(id)
	for i := range len(id) {
		if id[i] == '_' {
			at = i + 1
			break
		}
	}
	if len(id) < at+convSize+turnSize || !isHex(id[at:at+convSize+turnSize]) {
		return "", "", false
	}
	return id[at : at+convSize], id[at+convSize : at+convSize+turnSize], true
}

// foreignRef is where it is noted what a backend's own id means.
func foreignRef(id string) state.Ref {
	sum := sha256.Sum256([]byte(id))
	return state.Ref{Conv: "x" + hex.EncodeToString(sum[:16]), Kind: state.Object, Name: "at"}
}

func turnRef(conv, name string) state.Ref { return state.Ref{Conv: conv, Kind: state.Turn, Name: name} }
func objectRef(conv, name string) state.Ref {
	return state.Ref{Conv: conv, Kind: state.Object, Name: name}
}

// stateContext bounds what a call of the store takes.
func (c *call) stateContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), c.snap.conf.State.Timeout)
}

// stateless reports whether nothing is kept for requests of the call's face.
func (c *call) stateless() bool {
	if c.s.state == nil {
		return true
	}
	_, ok := c.face.Face.(translate.StateFace)
	return !ok
}

// nativeState reports whether a backend of a keeps what is said to it itself, for callers
// that speak its protocol.
func nativeState(a *agent, face *translate.Protocol) bool {
	return a.protocol == face && a.tr.Option("state", "proxy") == "backend"
}

var errUnreadable = errors.New("what was kept makes no sense")

// errStateDown is what a client is told whose conversation cannot be read.
func errStateDown(err error) *translate.Error {
	return &translate.Error{Kind: translate.KindOverloaded, Status: 503, Code: "state_unavailable", RetryAfter: 5 * time.Second, Cause: err,
		Message: "What was said before cannot be read now."}
}

func previousNotFound(id string) *translate.Error {
	return &translate.Error{Kind: translate.KindInvalid, Status: 400, Code: "previous_response_not_found", Param: "previous_response_id",
		Message: fmt.Sprintf("Previous response with id '%s' not found.", printable(id))}
}

func conversationNotFound(id string) *translate.Error {
	return &translate.Error{Kind: translate.KindNotFound, Status: 404, Code: "conversation_not_found", Param: "conversation",
		Message: fmt.Sprintf("Conversation with id '%s' not found.", printable(id))}
}

func itemNotFound(id string) *translate.Error {
	return &translate.Error{Kind: translate.KindInvalid, Status: 400, Code: "item_not_found", Param: "input",
		Message: fmt.Sprintf("Item with id '%s' not found.", printable(id))}
}

// recall reads what the request refers to, once. What its caller does not own does not
// exist.
func (c *call) recall() (e *translate.Error) {
	if c.thread == nil {
		c.thread = &thread{}
	}
	t := c.thread
	if t.recalled || !refers(c.req) {
		return nil
	}
	t.recalled = true
	var q state.Read
	head := ""
	own := false // the id has our form
	switch id := c.req.Previous; {
	case id != "" && c.face.Threads == translate.ThreadsByAnswer:
		return c.recallAnswered(id)
	case id != "":
		t.conv, head, own = splitID(id)
		if own = own && id == "resp_"+t.conv+head; own {
			q.Convs = append(q.Convs, t.conv)
		}
		q.Refs = append(q.Refs, foreignRef(id))
	case c.req.Conversation != "":
		if t.conv, own = convID(c.req.Conversation); !own {
			return conversationNotFound(c.req.Conversation)
		}
		if t.unlock, e = c.lock(t.conv); e != nil {
			return e
		}
		q.Convs = append(q.Convs, t.conv)
		q.Refs = append(q.Refs, objectRef(t.conv, conversationObject))
	}
	q.Refs = append(q.Refs, itemRefs(c.req.References)...)
	found, e := c.readState(q)
	if e != nil {
		return e
	}
	values := found.Values
	switch {
	case c.req.Previous != "":
		mark := values[0]
		values = values[1:]
		var ok bool
		if own {
			if t.turns, ok = chain(found.Turns[0], head); !ok {
				t.turns = nil
			}
		}
		if !ok && mark != nil {
			t.native, t.agent, t.conv = true, gjson.GetBytes(mark, "agent").String(), hexID(convSize)
			ok = true
		}
		if !ok {
			return previousNotFound(c.req.Previous)
		}
	case c.req.Conversation != "":
		if values[0] == nil {
			return conversationNotFound(c.req.Conversation)
		}
		values = values[1:]
		var ok bool
		if t.turns, ok = whole(found.Turns[0]); !ok {
			return conversationNotFound(c.req.Conversation)
		}
	}
	if n := len(t.turns); n > 0 {
		t.before = t.turns[n-1].name
		for i := n - 1; i >= 0 && t.agent == ""; i-- {
			t.agent = t.turns[i].agent
		}
	}
	return c.resolve(values)
}

func (c *call) readState(q state.Read) (state.Found, *translate.Error) {
	ctx, stop := c.stateContext()
	defer stop()
	found, err := c.s.state.Read(ctx, c.owner(), q)
	if err != nil {
		c.s.stateFailed("read", err)
		return found, errStateDown(err)
	}
	return found, nil
}

// itemRefs are where items are that are referred to: two for each, the turn that an id of
// ours names, and the note of a backend's own id.
func itemRefs(ids []string) []state.Ref {
	refs := make([]state.Ref, 0, 2*len(ids))
	for _, id := range ids {
		conv, name, ok := splitID(id)
		if !ok {
			conv, name = "none", "none"
		}
		refs = append(refs, turnRef(conv, name), foreignRef(id))
	}
	return refs
}

// resolve finds the items that the request refers to in what itemRefs found.
func (c *call) resolve(values [][]byte) *translate.Error {
	t := c.thread
	if len(c.req.References) == 0 {
		return nil
	}
	t.items = make(map[string]keptItem, len(c.req.References))
	var again []string
	var q state.Read
	for i, id := range c.req.References {
		if tu, ok := parseTurn("", values[2*i]); ok {
			if it, ok := tu.item(id); ok {
				t.items[id] = it
				continue
			}
		}
		mark := values[2*i+1]
		if mark == nil || !jsonx.Valid(mark) {
			return itemNotFound(id)
		}
		m := gjson.ParseBytes(mark)
		if conv := m.Get("conv").String(); conv != "" {
			q.Refs = append(q.Refs, turnRef(conv, m.Get("turn").String()))
			again = append(again, id)
			continue
		}
		// The backend has it, and no other.
		agent := m.Get("agent").String()
		if t.native && t.agent != agent {
			return itemNotFound(id)
		}
		t.native, t.agent = true, agent
	}
	if len(q.Refs) == 0 {
		return nil
	}
	found, e := c.readState(q)
	if e != nil {
		return e
	}
	for i, id := range again {
		tu, _ := parseTurn("", found.Values[i])
		it, ok := tu.item(id)
		if !ok {
			return itemNotFound(id)
		}
		t.items[id] = it
	}
	return nil
}

func firstWord(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// chain are the turns up to the one named head, oldest first. It reports false if one is
// missing.
func chain(all []state.Entry, head string) ([]keptTurn, bool) {
	at := make(map[string]int, len(all))
	for i := range all {
		at[all[i].Name] = i
	}
	var back []keptTurn
	for name := head; name != ""; {
		i, ok := at[name]
		if !ok || len(back) > len(all) {
			return nil, false
		}
		t, ok := parseTurn(name, all[i].Value)
		if !ok || t.status != "" { // nobody goes on from what failed, or is not whole yet
			return nil, false
		}
		back = append(back, t)
		name = t.prev
	}
	for i, j := 0, len(back)-1; i < j; i, j = i+1, j-1 {
		back[i], back[j] = back[j], back[i]
	}
	return back, len(back) > 0
}

// whole are all turns of a conversation, in their order.
func whole(all []state.Entry) ([]keptTurn, bool) {
	turns := make([]keptTurn, 0, len(all))
	for i := range all {
		t, ok := parseTurn(all[i].Name, all[i].Value)
		if !ok {
			return nil, false
		}
		if t.status == "" {
			turns = append(turns, t)
		}
	}
	return turns, true
}

// parseTurn reads a kept turn. Its strings borrow from value.
func parseTurn(name string, value []byte) (keptTurn, bool) {
	t := keptTurn{name: name}
	if value == nil || jsonx.Check(value, jsonx.CheckOptions{}) != nil {
		return t, false
	}
	inside := func(v gjson.Result) string {
		if len(v.Raw) < 2 {
			return ""
		}
		return v.Raw[1 : len(v.Raw)-1]
	}
	gjson.ParseBytes(value).ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "prev":
			t.prev = v.String()
		case "agent":
			t.agent = v.String()
		case "by":
			t.by = v.String()
		case "handle":
			t.handle = v.String()
		case "at":
			t.at = v.Int()
		case "status":
			t.status = v.String()
		case "in":
			t.in = inside(v)
		case "out":
			t.out = inside(v)
		}
		return true
	})
	if t.by == "" {
		t.by = t.agent
	}
	return t, true
}

// append writes the turn as it is kept.
func (t *keptTurn) append(b []byte) []byte {
	member := func(key, value string) {
		if value != "" {
			b = append(append(append(b, ',', '"'), key...), `":`...)
			b = jsonx.AppendStringS(b, value)
		}
	}
	b = fmt.Appendf(b, `{"at":%d`, t.at)
	member("status", t.status)
	member("prev", t.prev)
	member("agent", t.agent)
	if t.by != t.agent {
		member("by", t.by)
	}
	member("handle", t.handle)
	b = append(append(append(b, `,"in":[`...), t.in...), ']')
	b = append(append(append(b, `,"out":[`...), t.out...), ']')
	return append(b, '}')
}

// item finds an item by its id.
func (t *keptTurn) item(id string) (it keptItem, ok bool) {
	for i, list := range [...]string{t.in, t.out} {
		gjson.Parse("[" + list + "]").ForEach(func(_, v gjson.Result) bool {
			if v.Get("id").String() == id {
				it.raw, ok = v.Raw, true
				if i == 1 {
					it.by = t.by
				}
			}
			return !ok
		})
		if ok {
			return it, true
		}
	}
	return it, false
}

// converse does what the conversation of a request asks for, once its agent is known and
// the limits let it through: what was said before becomes part of it, and where its
// answer is kept is settled.
func (c *call) converse() *translate.Error {
	if c.stateless() {
		return nil
	}
	keeps := c.req.Store != translate.No
	if c.face.Threads == translate.ThreadsByClient {
		if c.req.ConversationID == "" && c.req.Announce == "" {
			return nil // nobody could come back to it
		}
		if e := c.recallNamed(); e != nil {
			return e
		}
	}
	if !keeps && !refers(c.req) {
		return nil
	}
	if refers(c.req) {
		if e := c.req.Check(); e != nil {
			return e
		}
	}
	if e := c.recall(); e != nil {
		return e
	}
	t := c.thread
	if t.native && (!nativeState(c.agent, c.face) || c.agent.conf.Name != t.agent) {
		// Only the backend that keeps it could go on.
		return previousNotFound(firstWord(c.req.Previous, firstOf(c.req.References)))
	}
	if c.req.Background && nativeState(c.agent, c.face) {
		return translate.Unsupported(translate.At("background"), &c.agent.tr, c.agent.protocol.Title)
	}
	if t.keeps = keeps; keeps {
		c.place()
	}
	if e := c.giveHistory(c.req); e != nil {
		return e
	}
	for i := range t.turns {
		c.input += ratelimit.EstimateInput([]byte(t.turns[i].in)) + ratelimit.EstimateInput([]byte(t.turns[i].out))
	}
	return nil
}

// note keeps hold of what the client says, for the turn that its answer makes. It comes behind all that finds fault with
// the request.
func (t *thread) note(c *call) {
	if t == nil || !t.keeps || t.keep.Native {
		return
	}
	t.said = c.face.Face.(translate.StateFace).AppendTurn(nil, c.req, itemIDs(c.seed)) //nolint:forcetypeassert // else there would be no thread
}

func firstOf(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// place says where the answer is kept, and under which id.
func (c *call) place() {
	t := c.thread
	switch c.face.Threads {
	case translate.ThreadsByAnswer:
		if t.conv == "" {
			t.conv = answeredConv(hexID(convSize))
		}
		t.name = nextOrdinal(t.before, c.start)
		id := "resp_" + t.conv[1:]
		c.seed = t.conv[1:] + t.name
		t.keep = translate.Keep{ID: id, Previous: c.req.Previous, Background: c.req.Background, Save: c.save}
		return
	case translate.ThreadsByClient:
		t.name = nextOrdinal(t.before, c.start)
		t.keep = translate.Keep{ID: c.req.ConversationID, Announce: c.req.Announce, Save: c.save}
		return
	}
	if t.conv == "" {
		t.conv = hexID(convSize)
	}
	t.name = hexID(turnSize)
	if c.req.Conversation != "" {
		t.name = nextOrdinal(t.before, c.start)
	}
	c.seed = t.conv + t.name
	t.keep = translate.Keep{
		ID: "resp_" + c.seed, Previous: c.req.Previous, Conversation: c.req.Conversation, Background: c.req.Background,
		Save: c.save,
	}
}

// giveHistory makes what was said before part of a request for the agent that is asked now.
// What only another agent can read is left out.
func (c *call) giveHistory(r *translate.Request) *translate.Error {
	t := c.thread
	if t == nil {
		return nil
	}
	r.Kept = t.keeps
	if t.keeps {
		t.keep.Native, t.keep.Begin = nativeState(c.agent, c.face), nil
		if t.keep.Native {
			t.keep.ID, t.keep.Begin = "", c.claim
		} else if c.face.Threads == translate.ThreadsByTurn {
			t.keep.ID = "resp_" + c.seed
		}
	}
	r.History, r.Handle, r.Goes = r.History[:0], "", false
	own, e := c.handled(r)
	if e != nil {
		return e
	}
	var kept []keptTurn
	if r.Goes = own; !own {
		if kept, e = c.truncate(r); e != nil {
			return e
		}
	}
	for i := range kept {
		tu := &kept[i]
		out := tu.out
		if tu.by != c.agent.conf.Name {
			out = withoutSecrets(out)
		}
		r.History = append(r.History, tu.in, out)
	}
	if len(t.items) > 0 {
		r.Items = make(map[string]string, len(t.items))
		for id, it := range t.items {
			raw := it.raw
			if it.by != "" && it.by != c.agent.conf.Name {
				raw = firstWord(withoutSecrets(raw), `{"type":"reasoning","summary":[]}`)
			}
			r.Items[id] = raw
		}
	}
	return nil
}

// withoutSecrets are items without reasoning that is for the agent which made it: sealed, or in that agent's own words.
func withoutSecrets(items string) string {
	var b []byte
	dropped := false
	gjson.Parse("[" + items + "]").ForEach(func(_, v gjson.Result) bool {
		if v.Get("type").String() == "reasoning" && (v.Get("encrypted_content").String() != "" || v.Get("content.0.text").String() != "") {
			dropped = true
			return true
		}
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = append(b, v.Raw...)
		return true
	})
	if !dropped {
		return items
	}
	return string(b)
}

// truncate are the turns that the request may take along. Where the agent is configured to take no more
// than so many tokens, truncation: auto drops the oldest turns, and without it the request is refused. A tool's
// result never goes without its call.
func (c *call) truncate(r *translate.Request) ([]keptTurn, *translate.Error) {
	turns := c.thread.turns
	most := c.agent.conf.MaxInputTokens
	if most <= 0 {
		return turns, nil
	}
	total := ratelimit.EstimateInput(r.Body)
	sizes := make([]int64, len(turns))
	for i := range turns {
		sizes[i] = ratelimit.EstimateInput([]byte(turns[i].in)) + ratelimit.EstimateInput([]byte(turns[i].out))
		total += sizes[i]
	}
	s, ok := r.Setting(translate.ParamTruncation)
	auto := ok && s == `"auto"`
	if auto {
		r.Truncated = true
		drop := func(n int) {
			for range n {
				total -= sizes[len(sizes)-len(turns)]
				turns = turns[1:]
			}
		}
		for len(turns) > 0 && total > most {
			drop(1)
			drop(orphaned(turns))
		}
	}
	if total > most {
		what := "The conversation"
		if auto {
			what = "The input"
		}
		return nil, &translate.Error{Kind: translate.KindInvalid, Status: 400, Code: "context_length_exceeded", Param: "input",
			Message: fmt.Sprintf("%s is about %d tokens long, and agent %q takes %d.%s", what, total, c.agent.conf.Name, most,
				map[bool]string{false: " With truncation \"auto\" the oldest turns are left out.", true: ""}[auto])}
	}
	return turns, nil
}

// orphaned is how many turns have to go so that no result of a call is left whose call went before.
func orphaned(turns []keptTurn) (n int) {
	calls := map[string]bool{}
	for i := range turns {
		for _, list := range [...]string{turns[i].in, turns[i].out} {
			gjson.Parse("[" + list + "]").ForEach(func(_, v gjson.Result) bool {
				switch v.Get("type").String() {
				case "function_call", "custom_tool_call":
					calls[v.Get("call_id").String()] = true
				case "function_call_output", "custom_tool_call_output":
					if !calls[v.Get("call_id").String()] {
						n = i + 1
					}
				}
				return true
			})
		}
	}
	return n
}

// save keeps the answer, and reports whether that worked: if not the client is told, by store:false.
func (c *call) save(k *translate.Kept) bool {
	t := c.thread
	if t.keep.Native {
		return c.noteItems(k)
	}
	tu := keptTurn{
		prev: t.before, agent: c.front0().conf.Name, by: c.agent.conf.Name, at: c.start.Unix(),
		in: string(t.said), out: string(k.Output),
	}
	change := state.Change{Remove: t.replaces, Put: make([]state.Entry, 2, 4)}
	c.moveMark(&change, &tu)
	change.Put[0] = state.Entry{Ref: turnRef(t.conv, t.name), Value: tu.append(nil)}
	change.Put[1] = state.Entry{Ref: objectRef(t.conv, t.name), Value: append([]byte(nil), k.Object...)}
	if t.before != "" {
		change.Need = append(change.Need, turnRef(t.conv, t.before))
	}
	if c.req.Conversation != "" {
		change.Need = append(change.Need, objectRef(t.conv, conversationObject))
	}
	if c.run != nil {
		change.Need = append(change.Need, turnRef(t.conv, t.name)) // it may have been deleted meanwhile
	}
	if t.unlock != nil {
		defer t.unlock() // the client may go on as soon as it has the answer
	}
	if c.face.Threads != translate.ThreadsByTurn {
		change.Put = slices.Delete(change.Put, 1, 2) // nobody can fetch them
		return c.saveState(change)
	}
	gjson.Parse("[" + tu.out + "]").ForEach(func(_, v gjson.Result) bool {
		id := v.Get("id").String()
		if conv, name, ok := splitID(id); id != "" && (!ok || conv != t.conv || name != t.name) { // a backend's own
			change.Put = append(change.Put, state.Entry{Ref: foreignRef(id), Value: fmt.Appendf(nil, `{"conv":%q,"turn":%q}`, t.conv, t.name)})
		}
		return true
	})
	return c.saveState(change)
}

// front0 is the agent that the request named.
func (c *call) front0() *agent {
	if c.front != nil {
		return c.front
	}
	return c.agent
}

// claim notes whose an answer is that the backend keeps.
func (c *call) claim(id string) bool {
	c.thread.keep.ID = id
	return c.saveState(state.Change{Put: []state.Entry{c.foreign(id)}})
}

func (c *call) foreign(id string) state.Entry {
	value := append(jsonx.AppendStringS([]byte(`{"agent":`), c.agent.conf.Name), '}')
	return state.Entry{Ref: foreignRef(id), Value: value}
}

// noteItems notes whose the items of an answer are that the backend keeps.
func (c *call) noteItems(k *translate.Kept) bool {
	var change state.Change
	gjson.Parse("[" + string(k.Output) + "]").ForEach(func(_, v gjson.Result) bool {
		if id := v.Get("id").String(); id != "" {
			change.Put = append(change.Put, c.foreign(id))
		}
		return true
	})
	return len(change.Put) == 0 || c.saveState(change)
}

func (c *call) saveState(change state.Change) bool {
	ctx, stop := c.stateContext()
	defer stop()
	err := c.s.state.Save(ctx, c.owner(), change)
	if err == nil {
		return true
	}
	why := "failed"
	switch {
	case errors.Is(err, state.ErrTooLarge):
		why = "too_large"
	case errors.Is(err, state.ErrGone):
		why = "gone"
	}
	c.s.stateFailed(why, err)
	c.s.log.Warn("an answer was not kept", zap.String("request_id", c.id), zap.String("why", why), zap.Error(err))
	return false
}
