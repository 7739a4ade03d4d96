package ratelimit

// Try takes the slots that are free, and reports whether those are all that the grant is to have, so that there is nothing to
// Wait for. What it took stays taken until Release, or until Wait is refused.
func (l *Limiter) Try(g *Grant) bool {
	if !g.open {
		return true
	}
	for i, s := range g.scopes {
		if s == nil || s.plan.limits.Concurrent <= 0 || g.held&(1<<i) != 0 {
			continue
		}
		if !s.slots.try(s.plan.limits.Concurrent) {
			return false // the order of kinds is kept: none behind it is taken
		}
		g.held |= 1 << i
	}
	return true
}
