package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/gjson"
	"github.com/valyala/fasthttp"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
	"github.com/dragoman-proxy/dragoman/internal/state"
	"github.com/dragoman-proxy/dragoman/translate"
)

// kept answers what asks for kept answers and conversations. No agent hears of it; it counts as a request of its
// caller, because it costs the store one.
func (c *call) kept(ctx *fasthttp.RequestCtx, query string) *translate.Error {
	face, ok := c.face.Face.(translate.KeptFace)
	if !ok {
		panic("BUG: " + c.face.Name + " has a route for what was kept that it cannot read")
	}
	if r := c.s.limiter.Take(context.Background(), c.scopes(), 0, &c.grant); r != nil {
		return c.refused(r)
	}
	c.log.limits(c.grant.Status())
	if c.match.route.Method == fasthttp.MethodPost && c.match.route.Op != translate.OpCancelResponse {
		if e := c.readBody(ctx); e != nil {
			return e
		}
	}
	var out []byte
	var e *translate.Error
	switch c.match.route.Op {
	case translate.OpResponse:
		values, err := url.ParseQuery(query)
		switch {
		case err != nil:
			return translate.Invalid(translate.At("include"), "The query cannot be read.")
		case values.Get("stream") == "true":
			return c.streamResponse(ctx, values.Get("starting_after"))
		}
		out, e = c.fetchResponse(face, translate.Includes(values))
	case translate.OpDeleteResponse:
		out, e = c.deleteResponse(face)
	case translate.OpCancelResponse:
		out, e = c.cancelResponse()
	case translate.OpInputItems:
		out, e = c.inputItems(face, query)
	default:
		out, e = c.conversation(face, query)
	}
	if e != nil {
		return e
	}
	return c.reply(ctx, out)
}

// notThere is what an id gets that means nothing to its caller, whatever the reason.
func notThere(what, id string) *translate.Error {
	return &translate.Error{Kind: translate.KindNotFound, Status: 404, Code: strings.ToLower(what) + "_not_found",
		Message: fmt.Sprintf("%s with id '%s' not found.", what, printable(id))}
}

// stored reads the turn and the object of an answer.
func (c *call) stored(id string) (tu keptTurn, object []byte, e *translate.Error) {
	conv, name, ok := splitID(id)
	if c.s.state == nil {
		return tu, nil, notThere("Response", id)
	}
	if !ok || id != "resp_"+conv+name { // asked for nevertheless, so that it takes as long
		conv, name, ok = "none", "none", false
	}
	found, e := c.readState(state.Read{Refs: []state.Ref{turnRef(conv, name), objectRef(conv, name)}})
	if e != nil {
		return tu, nil, e
	}
	object = found.Values[1]
	if tu, good := parseTurn(name, found.Values[0]); ok && good && object != nil && jsonx.Valid(object) {
		return c.outcomeOf(conv, name, tu, object)
	}
	return tu, nil, notThere("Response", id)
}

func (c *call) fetchResponse(face translate.KeptFace, include []string) ([]byte, *translate.Error) {
	tu, object, e := c.stored(c.match.id)
	if e != nil {
		return nil, e
	}
	return face.AppendResponse(nil, object, tu.out, include), nil
}

func (c *call) deleteResponse(face translate.KeptFace) ([]byte, *translate.Error) {
	conv, name, ok := splitID(c.match.id)
	if !ok || c.s.state == nil || c.match.id != "resp_"+conv+name {
		return nil, notThere("Response", c.match.id)
	}
	refs := []state.Ref{turnRef(conv, name), objectRef(conv, name)}
	found, e := c.readState(state.Read{Refs: []state.Ref{piecesRef(conv, name)}})
	if e != nil {
		return nil, e
	}
	remove := append([]state.Ref{piecesRef(conv, name), cancelRef(conv, name), markRef(conv, name)}, refs...)
	if n, _, ok := parsePieces(found.Values[0]); ok {
		for i := range n + 2 { // another may be kept between the two
			remove = append(remove, pieceRef(conv, name, i+1))
		}
	}
	if x := c.s.runs.get(c.owner(), c.match.id); x != nil {
		defer x.call.cancel.Cancel(errCancelled)
	}
	if e := c.changeState(state.Change{Need: refs, Remove: remove}, notThere("Response", c.match.id)); e != nil {
		return nil, e
	}
	return face.AppendDeleted(nil, c.match.id, "response"), nil
}

func (c *call) inputItems(face translate.KeptFace, query string) ([]byte, *translate.Error) {
	page, e := translate.ParsePage(query)
	if e != nil {
		return nil, e
	}
	tu, _, e := c.stored(c.match.id)
	if e != nil {
		return nil, e
	}
	items, more, e := paged(appendItems(nil, tu.in), page)
	if e != nil {
		return nil, e
	}
	return face.AppendItems(nil, items, more, page.Include), nil
}

// appendItems appends the items of a list, raw.
func appendItems(all []string, list string) []string {
	gjson.Parse("[" + list + "]").ForEach(func(_, v gjson.Result) bool {
		all = append(all, v.Raw)
		return true
	})
	return all
}

// paged is the page of a list in its order that is asked for, and whether there is more behind it.
func paged(all []string, p translate.Page) (items []string, more bool, e *translate.Error) {
	if !p.Ascending {
		slices.Reverse(all)
	}
	find := func(id, what string) int {
		i := slices.IndexFunc(all, func(raw string) bool { return gjson.Get(raw, "id").String() == id })
		if i < 0 && e == nil {
			e = translate.Invalid(translate.At(what), "'%s' names no item of this list.", what)
		}
		return i
	}
	if p.After != "" {
		all = all[find(p.After, "after")+1:]
	}
	if p.Before != "" && e == nil {
		if i := find(p.Before, "before"); i >= 0 {
			all = all[:i]
			// The page that ends there.
			if len(all) > p.Limit {
				return all[len(all)-p.Limit:], true, nil
			}
			return all, false, nil
		}
	}
	if e != nil {
		return nil, false, e
	}
	if len(all) > p.Limit {
		return all[:p.Limit], true, nil
	}
	return all, false, nil
}

// changeState makes a change; gone is what the client is told if what it builds on is not there.
func (c *call) changeState(change state.Change, gone *translate.Error) *translate.Error {
	ctx, stop := c.stateContext()
	defer stop()
	err := c.s.state.Save(ctx, c.owner(), change)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, state.ErrGone):
		return gone
	case errors.Is(err, state.ErrTooLarge):
		c.s.stateFailed("too_large", err)
		return &translate.Error{Kind: translate.KindTooLarge, Status: 413, Code: "conversation_too_large", Cause: err,
			Message: "The conversation would be larger than conversations may be here."}
	}
	c.s.stateFailed("failed", err)
	return &translate.Error{Kind: translate.KindOverloaded, Status: 503, Code: "state_unavailable", RetryAfter: 5 * time.Second, Cause: err,
		Message: "Conversations cannot be kept now."}
}
