package translate

import (
	"slices"
	"strings"
)

// ForgetRequest gives up all of the request that the rest of a stream has no use for, so
// that the body which it borrows from can be dropped: many streams are open for minutes,
// and each would hold its whole conversation. It returns what is left, which borrows
// from nothing and takes the request's place in the Setup, or nil if the client's
// protocol repeats the request in its answers: then all of it stays.
func (a *Answer) ForgetRequest() *Request {
	if !a.protocol.Forgets {
		return nil
	}
	r := a.setup.Request.outline()
	a.setup.Request, a.tap.Request = r, r
	if a.tapped != nil {
		a.tapped.Request = r
	}
	return r
}

// outline is a copy of what decoders, encoders and the log ask a request for after its
// answer has begun: names, settings and the ledger; no turns, no schemas.
func (r *Request) outline() *Request {
	o := &Request{
		Face: r.Face, Agent: strings.Clone(r.Agent), AgentPath: r.AgentPath.clone(), AgentNamed: r.AgentNamed,
		Model: strings.Clone(r.Model), Stream: r.Stream, IncludeUsage: r.IncludeUsage, NeedsUsage: r.NeedsUsage,
		ConversationID: strings.Clone(r.ConversationID), Store: r.Store,
		Ledger: Ledger{dropped: slices.Clone(r.Ledger.dropped), unknown: r.Ledger.unknown, more: r.Ledger.more},
	}
	for i, name := range o.Ledger.dropped {
		o.Ledger.dropped[i] = strings.Clone(name)
	}
	if len(r.Tools) > 0 {
		o.Tools = make([]Tool, len(r.Tools))
		for i := range r.Tools {
			t := &r.Tools[i]
			o.Tools[i] = Tool{Kind: t.Kind, Name: strings.Clone(t.Name), Strict: t.Strict, StrictByDefault: t.StrictByDefault, Path: t.Path.clone()}
		}
	}
	if len(r.Settings) > 0 {
		o.Settings = make([]Setting, len(r.Settings))
		for i := range r.Settings {
			s := &r.Settings[i]
			o.Settings[i] = Setting{Param: s.Param, Raw: strings.Clone(s.Raw), Path: s.Path.clone()}
		}
	}
	return o
}

// clone is a path that borrows from nothing.
func (p Path) clone() Path {
	p.Base, p.Mid, p.Leaf = strings.Clone(p.Base), strings.Clone(p.Mid), strings.Clone(p.Leaf)
	return p
}
