package proxy

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
	"github.com/dragoman-proxy/dragoman/internal/state"
	"github.com/dragoman-proxy/dragoman/translate"
)

// conversationObject is the entry that makes a conversation one that clients name. Its turns are named in their order, by
// nextOrdinal.
const conversationObject = "conversation"

// convID is the conversation that an id of ours names.
func convID(id string) (conv string, ok bool) {
	conv, ok = strings.CutPrefix(id, "conv_")
	return conv, ok && len(conv) == convSize && isHex(conv)
}

// nextOrdinal names a turn of a conversation whose turns are in order, behind the last one.
func nextOrdinal(last string, now time.Time) string {
	n := uint64(now.UnixMicro()) << 10
	if l, err := strconv.ParseUint(last, 16, 64); err == nil && l >= n {
		n = l + 1
	}
	return fmt.Sprintf("%016x", n)
}

// conversation answers what clients ask of conversations that they name.
func (c *call) conversation(face translate.KeptFace, query string) ([]byte, *translate.Error) {
	op := c.match.route.Op
	if c.s.state == nil {
		if op == translate.OpNewConversation {
			return nil, &translate.Error{Kind: translate.KindNotFound, Status: 404, Code: "conversations_not_kept", Message: "This server keeps no conversations."}
		}
		return nil, notThere("Conversation", c.match.id)
	}
	if op == translate.OpNewConversation {
		return c.newConversation(face)
	}
	conv, ok := convID(c.match.id)
	if !ok { // asked for nevertheless, so that it takes as long
		conv = "none"
	}
	if op == translate.OpItems || op == translate.OpItem {
		return c.conversationItems(face, conv, query)
	}
	// What changes a conversation goes one by one, with the turns of answers.
	if op != translate.OpConversation && ok {
		release, e := c.lock(conv)
		if e != nil {
			return nil, e
		}
		defer release()
	}
	q := state.Read{Refs: []state.Ref{objectRef(conv, conversationObject)}}
	if op == translate.OpAddItems || op == translate.OpDeleteItem {
		q.Convs = []string{conv}
	}
	found, e := c.readState(q)
	if e != nil {
		return nil, e
	}
	object := found.Values[0]
	if object == nil || !jsonx.Valid(object) {
		return nil, notThere("Conversation", c.match.id)
	}
	created, metadata := gjson.GetBytes(object, "created_at").Int(), gjson.GetBytes(object, "metadata").Raw
	here := []state.Ref{objectRef(conv, conversationObject)}
	gone := notThere("Conversation", c.match.id)
	switch op {
	case translate.OpConversation:
	case translate.OpSetConversation:
		_, set, e := face.ReadConversation(c.body.b, nil)
		if e != nil {
			return nil, e
		}
		if set == "" {
			return nil, translate.Invalid(translate.At("metadata"), "'metadata' is required.")
		}
		metadata = set
		if e := c.changeState(state.Change{Need: here, Put: []state.Entry{{Ref: here[0], Value: conversationValue(created, metadata)}}}, gone); e != nil {
			return nil, e
		}
	case translate.OpDeleteConversation:
		if e := c.changeState(state.Change{Need: here, Remove: []state.Ref{{Conv: conv}}}, gone); e != nil {
			return nil, e
		}
		return face.AppendDeleted(nil, c.match.id, "conversation.deleted"), nil
	case translate.OpAddItems:
		last := ""
		if n := len(found.Turns[0]); n > 0 {
			last = found.Turns[0][n-1].Name
		}
		name := nextOrdinal(last, c.start)
		items, _, e := face.ReadConversation(c.body.b, itemIDs(conv+name))
		if e != nil {
			return nil, e
		}
		if len(items) == 0 {
			return nil, translate.Invalid(translate.At("items"), "'items' is required and must not be empty.")
		}
		if e := c.changeState(state.Change{Need: here, Put: []state.Entry{c.itemsEntry(conv, name, last, items)}}, gone); e != nil {
			return nil, e
		}
		return face.AppendItems(nil, items, false, nil), nil
	case translate.OpDeleteItem:
		put, ok := withoutItem(found.Turns[0], c.match.item)
		if !ok {
			return nil, notThere("Item", c.match.item)
		}
		// What a backend keeps itself has not lost the item, and is not gone on with.
		latest := markRef(conv, found.Turns[0][len(found.Turns[0])-1].Name)
		if e := c.changeState(state.Change{Need: append(here, put.Ref), Remove: []state.Ref{latest}, Put: []state.Entry{put}}, gone); e != nil {
			return nil, e
		}
	}
	return face.AppendConversation(nil, c.match.id, created, metadata), nil
}

// itemIDs makes the ids of items that a client adds.
func itemIDs(seed string) func(prefix string, n int) string {
	return func(prefix string, n int) string { return fmt.Sprintf("%s%si%02x", prefix, seed, n) }
}

func conversationValue(created int64, metadata string) []byte {
	if metadata == "" {
		metadata = "{}"
	}
	return fmt.Appendf(nil, `{"created_at":%d,"metadata":%s}`, created, metadata)
}

// itemsEntry is a turn of items that no agent has answered.
func (c *call) itemsEntry(conv, name, last string, items []string) state.Entry {
	tu := keptTurn{prev: last, at: c.start.Unix(), in: strings.Join(items, ",")}
	return state.Entry{Ref: turnRef(conv, name), Value: tu.append(nil)}
}

func (c *call) newConversation(face translate.KeptFace) ([]byte, *translate.Error) {
	conv, name := hexID(convSize), nextOrdinal("", c.start)
	items, metadata, e := face.ReadConversation(c.body.b, itemIDs(conv+name))
	if e != nil {
		return nil, e
	}
	put := []state.Entry{{Ref: objectRef(conv, conversationObject), Value: conversationValue(c.start.Unix(), metadata)}}
	if len(items) > 0 {
		put = append(put, c.itemsEntry(conv, name, "", items))
	}
	id := "conv_" + conv
	if e := c.changeState(state.Change{Put: put}, nil); e != nil {
		return nil, e
	}
	return face.AppendConversation(nil, id, c.start.Unix(), metadata), nil
}

// conversationItems lists the items of a conversation, or shows one.
func (c *call) conversationItems(face translate.KeptFace, conv, query string) ([]byte, *translate.Error) {
	page, e := translate.ParsePage(query)
	if e != nil {
		return nil, e
	}
	found, e := c.readState(state.Read{Convs: []string{conv}, Refs: []state.Ref{objectRef(conv, conversationObject)}})
	if e != nil {
		return nil, e
	}
	turns, ok := whole(found.Turns[0])
	if found.Values[0] == nil || !ok {
		return nil, notThere("Conversation", c.match.id)
	}
	if c.match.route.Op == translate.OpItem {
		for i := range turns {
			if it, ok := turns[i].item(c.match.item); ok {
				return face.AppendItem(nil, it.raw, page.Include), nil
			}
		}
		return nil, notThere("Item", c.match.item)
	}
	var all []string
	for i := range turns {
		all = appendItems(appendItems(all, turns[i].in), turns[i].out)
	}
	items, more, e := paged(all, page)
	if e != nil {
		return nil, e
	}
	return face.AppendItems(nil, items, more, page.Include), nil
}

// withoutItem is the turn that has an item, without it.
func withoutItem(all []state.Entry, id string) (state.Entry, bool) {
	for i := range all {
		tu, ok := parseTurn(all[i].Name, all[i].Value)
		if !ok {
			continue
		}
		if _, ok := tu.item(id); !ok {
			continue
		}
		drop := func(list string) string {
			items := appendItems(nil, list)
			n := 0
			for _, raw := range items {
				if gjson.Get(raw, "id").String() != id {
					items[n] = raw
					n++
				}
			}
			return strings.Join(items[:n], ",")
		}
		tu.in, tu.out = drop(tu.in), drop(tu.out)
		return state.Entry{Ref: all[i].Ref, Value: tu.append(nil)}, true
	}
	return state.Entry{}, false
}
