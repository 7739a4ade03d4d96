package auth

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails the package when a goroutine outlives the tests: every one has an owner and an end.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
