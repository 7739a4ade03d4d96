package translate

// Cognipeer and Ticos read one message and nothing else. What they have in
// common is here: what is told of a conversation that is folded for them.

// oneTextLoses notes what no text has a place for and an answer can do without:
// the tools that the model may call, the phase of earlier messages, the wish that
// the answer be stored.
func oneTextLoses(r *Request) {
	for i := range r.Tools {
		r.Ledger.Drop(r.Tools[i].Path)
	}
	for i := range r.Turns {
		if r.Turns[i].Phase != PhaseNone {
			r.Ledger.Drop(r.Turns[i].Path.In("phase"))
		}
	}
	if r.Store == Yes && !r.Kept {
		r.Ledger.Drop(At("store"))
	}
}

// clientHistory is the first turn of the client's own beyond its one user
// message, nil if there is none: what options.history: refuse names. The system
// prompt of the configuration is folded all the same: whoever wrote both wants
// it.
func clientHistory(r *Request) *Turn {
	for i := range r.Turns {
		t := &r.Turns[i]
		if t.Path.Base == "defaults.system_prompt" {
			continue
		}
		if i < len(r.Turns)-1 || t.Role != RoleUser {
			return t
		}
	}
	return nil
}

// underSystem is a user's text with a system prompt before it, as a conversation
// of the two is folded.
func underSystem(prompt, text string) string {
	f := foldHistory(&Request{Turns: []Turn{
		{Role: RoleSystem, Blocks: []Block{{Type: BlockText, Text: prompt}}},
		{Role: RoleUser, Blocks: []Block{{Type: BlockText, Text: text}}},
	}})
	return f.Text
}
