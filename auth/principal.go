package auth

// Principal is who is calling. It is shared by all requests of that caller and must not be changed.
type Principal struct {
	// Name is the key's name, or issuer|subject of a token; the names of keys have no |. It is empty for [Anonymous].
	Name string

	// Token says that a JSON Web Token was presented, whose subjects nobody has listed beforehand.
	Token bool

	// Agents are the names of agents, or patterns in which a star stands for any run of characters, that the caller may
	// call and see. nil: all of them. Empty, but not nil: none.
	Agents []string
}

// Anonymous is everybody where nobody is asked who they are.
var Anonymous = &Principal{}

// May reports whether the caller may call, and see, the agent of that name. It allocates nothing.
func (p *Principal) May(agent string) bool {
	if p.Agents == nil {
		return true
	}
	for _, pattern := range p.Agents {
		if match(pattern, agent) {
			return true
		}
	}
	return false
}
