package daemon

import "testing"

func TestOnlyWhoRunsElsewhereOrLosesNothingBecomesAnotherPeer(t *testing.T) {
	for name, tc := range map[string]struct {
		evidence
		want bool
	}{
		"a restart":                             {evidence{sameRun: true}, false},
		"a restart, whatever others say":        {evidence{sameRun: true, said: elsewhere}, false},
		"a clone":                               {evidence{said: elsewhere, containers: true}, true},
		"a clone with the machine-id":           {evidence{said: elsewhere, sameMachine: true, sameAddress: true}, true},
		"a reboot":                              {evidence{sameMachine: true, said: welcome, containers: true}, false},
		"a reboot while nobody answers":         {evidence{sameMachine: true}, false},
		"a clone while nobody answers":          {evidence{}, false},
		"another machine-id after a reboot":     {evidence{said: welcome, sameAddress: true}, false},
		"a disk in another machine, containers": {evidence{said: welcome, containers: true}, false},
		"an image":                              {evidence{said: welcome}, true},
	} {
		if got := tc.isCopy(); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
