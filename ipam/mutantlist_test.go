package ipam

// mutants are the mistakes that the simulator must catch. Where schedules catch
// one, its directed test is there to say why it is one.
var mutants = []mutant{
	{name: "a donation is sent before it is committed", modes: "plain loss disk", edits: []edit{
		{"adopt.go", "		c.table, c.dirty.table = merged, true\n", "		c.table = merged\n"},
		{"adopt.go", "	c.own = minus(c.own, spansOf(rows))\n	c.dirty.own = true\n", "	c.own = minus(c.own, spansOf(rows))\n"}}},
	{name: "an allocation is not committed, and no restart scan", modes: "plain loss", edits: []edit{
		{"holding.go", "	mark(&c.dirty.held, a)\n", ""},
		{"simworld_test.go", "_, held := h.core.held[a]; !held {", "_, held := h.core.held[a]; !held && false {"},
		{"simworld_test.go", "!ok || x.use == useWanted {\n			delete", "!ok && !slices.Contains(slices.Collect(maps.Values(h.containers)), a) || ok && x.use == useWanted {\n			delete"}}},
	{name: "a donation of one that was sealed is used", test: "TestGiftThatArrivesAfterTheGiversSealIsNotUsed", edits: []edit{
		{"adopt.go", "	return c.isMember(r.From)\n", "	return true\n"}}},
	{name: "a reclaim with the word of a majority", modes: "plain disk", edits: []edit{
		{"reclaim.go", "	if len(missing) == 0 {\n", "	if len(missing) <= len(c.view.Members())/2 {\n"},
		{"reclaim.go", "			a := c.round.acks[r.Owner]\n", "			a := c.round.acks[r.Owner]\n			_ = 0\n"}}},
	{name: "answers to an earlier life are taken", test: "TestAnswerToAnEarlierLifeIsNotTaken", edits: []edit{
		{"receive.go", "	if m.To != uuid.Nil && m.To != c.self && m.Kind != kindDigest && m.Kind != kindSync {\n", "	if false {\n"}}},
	{name: "wards need not tell what they know", test: "TestReclaimWaitsForWardsThatOnlyTheirSponsorKnows", edits: []edit{
		{"reclaim.go", "			queue = append(queue, w.ID())\n", ""}}},
	{name: "wards of the sealed are members", modes: "plain disk", test: "TestNewcomerThatTheLeaderNeverHeardOfIsShutOutWithItsSponsor", edits: []edit{
		{"core.go", "	_, _, member := c.standing(id)\n	return member\n",
			"	_, known := c.sponsor(id)\n	_, sealed := c.view.Sealed[id]\n	_, _, member := c.standing(id)\n	return member || known && !sealed\n"}}},
	{name: "a reclaim of before the last counts", test: "TestTwoReclaimsFromDifferentWordsDoNotBothCount", edits: []edit{
		{"council/command.go", "	if e.Base < s.Fence {\n", "	if e.Base < 1 {\n"}}},
	{name: "a lease is freed when its holder is sealed", test: "TestLeaseIsNotFreedBeforeItsHolderIsShutOutEverywhere", edits: []edit{
		{"holding.go", "		return sealed && at <= c.view.Reclaimed\n", "		return sealed && at > 0\n"}}},
	{name: "leases are left out of what is told", modes: "plain disk", edits: []edit{
		{"reclaim.go", "h.use == useLeased {\n			a.Leases", "h.use == useLeased && false {\n			a.Leases"}}},
	{name: "blocks in use are given away", modes: "loss plain", edits: []edit{
		{"donate.go", "				if c.unused(span{first, size}) {\n", "				if true {\n"}}},
	{name: "a force stays in the same domain", modes: "force", edits: []edit{
		{"view.go", "	next := c.view.Fork(nonce, list...)\n", "	next := c.view.Fork(nonce, list...)\n	next.Domain = c.view.Domain\n"}}},
	{name: "the domain is not looked at", modes: "force", edits: []edit{
		{"receive.go", "	if m.Domain != c.domain {\n", "	if m.Domain != c.domain && m.Kind != kindGrant && m.Kind != kindLeased && m.Kind != kindClaim && m.Kind != kindDelta {\n"}}},
	{name: "of two forced meshes both yield", modes: "force", test: "TestOfTwoForcedMeshesOneStays", edits: []edit{
		{"view.go", "	case council.Winner:\n		return true\n", "	case council.Winner, council.Loser:\n		return true\n"},
		{"view.go", "	rival := r == council.Winner\n", "	rival := r == council.Winner || r == council.Loser\n"}}},
	{name: "a rollback is not looked for", modes: "rollback clones", edits: []edit{
		{"fork.go", "	if id == uuid.Nil || c.poisoned[id] || c.isSealed(id) {\n", "	if id != uuid.Nil || c.poisoned[id] || c.isSealed(id) {\n"}}},
	{name: "a member does not hear that it was set back", modes: "rollback clones", edits: []edit{
		{"fork.go", "	if m.To == c.self && ahead {\n", "	if m.To == c.self && ahead && false {\n"}}},
	{name: "a token is used again", test: "TestReleaseOfAnEarlierUseDoesNotFreeALaterOne", edits: []edit{
		{"holding.go", "	return (c.seq+1)<<16 | c.tokens&0xffff\n", "	return 1\n"}}},
	{name: "no epoch: what the council gives begins at epoch 1", test: "TestRegisterOfAnotherSealedMemberIsInheritedToo", edits: []edit{
		{"view.go", "Register{Epoch: c.view.Epoch(index), Version: 1, Owner: s.Heir}", "Register{Epoch: 1, Version: 1, Owner: s.Heir}"}}},
	{name: "who was admitted after the base need not have told", test: "TestReclaimIsVoidForWhomItDidNotHear", edits: []edit{
		{"council/command.go", "!sealed && a.At > e.Base && !slices", "!sealed && false && a.At > e.Base && !slices"}}},
	{name: "the ward of a sealed sponsor is admitted", test: "TestWardIsNotAdmittedAfterItsSponsorsSeal", edits: []edit{
		{"council/command.go", "		if in || sealed || !s.IsAdmitted(c.Member.Sponsor) {\n", "		if in || sealed {\n"}}},
	// Beyond the protocol's list: where this simulator could be blind.
	{name: "what is told is told before the kernel follows", modes: "plain disk", edits: []edit{
		{"reclaim.go", "	if c.enforced >= c.fence && c.view.LastSeal() >= m.Index && c.Lodged() {\n", "	if c.view.LastSeal() >= m.Index && c.Lodged() {\n"}}},
	{name: "heirs do not take over leases", modes: "plain disk", edits: []edit{
		{"adopt.go", "	for _, l := range legacy {\n		c.addLease(l)\n", "	for _, l := range legacy[:0] {\n		c.addLease(l)\n"}}},
	{name: "a newcomer speaks as a member before it was let in", test: "TestNewcomerIsSilentUntilItWasLetIn", edits: []edit{
		{"effects.go", "	if !c.lodged && m.Kind != kindRequest {\n", "	if false {\n"},
		{"core.go", "			if _, sealed := c.view.Sealed[id]; m.Sponsor == c.self && !c.wards[id] && !sealed {\n				continue\n			}\n", ""},
		{"fork.go", "	return c.self != uuid.Nil && m.Sponsor == c.self &&", "	return false && c.self != uuid.Nil && m.Sponsor == c.self &&"}}},
	{name: "an older claim replaces a newer one", test: "TestOlderClaimDoesNotReplaceANewerOne", edits: []edit{
		{"claim.go", "		case m.Token < l.Token:\n			return // it has begun anew since\n		case m.Token > l.Token:\n", "		case m.Token != l.Token:\n"}}},
	{name: "a ward is admitted that never heard that it is in", test: "TestWardThatNeverHeardIsNotAdmitted", edits: []edit{
		{"propose.go", "		if c.heard[id] && c.view", "		if c.view"}}},
	{name: "a peer joins anew before the kernel has cut the old life off", test: "TestNobodyJoinsAnewBeforeItsOldLifeIsCutOff", edits: []edit{
		{"donate.go", "	if c.enforced < c.fence {\n		return Effects{}, ErrNotEnforced\n	}\n", ""}}},
	{name: "a repeated request is granted again", test: "TestRepeatedRequestIsGrantedOnceAlsoAfterARestart", edits: []edit{
		{"donate.go", "		if g.to == m.FromID && g.nonce == m.Nonce {\n", "		if false && g.nonce == m.Nonce {\n"}}},
	{name: "a release of an earlier use frees a later one", test: "TestReleaseOfAnEarlierUseDoesNotFreeALaterOne", edits: []edit{
		{"claim.go", "l.Holder == m.FromID && l.Token == m.Token })\n", "l.Holder == m.FromID })\n"}}},
	{name: "two that run from one memory are not told", modes: "clones", edits: []edit{
		{"fork.go", "	case m.Said < most.count && m.Kind == kindDigest:\n", "	case m.Said < most.count && false:\n"}}},
	{name: "voters that stand together always do", modes: "clones voters plain", edits: []edit{
		{"council/node.go", "	x := voter ^ term*0x9e3779b97f4a7c15\n	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9\n	x = (x ^ x>>27) * 0x94d049bb133111eb\n", "	x := uint64(0)\n"}}},
	{name: "a peer that moves to a rival mesh stays in its own domain", test: "TestOfTwoForcedMeshesOneStays", edits: []edit{
		{"view.go", "	if domain := s.Domain.Hash(); domain != c.domain {", "	if domain := s.Domain.Hash(); domain != c.domain && len(s.Domain.Forces) != len(c.view.Domain.Forces) || c.view.Index == 0 {"}}},
	{name: "two founders are one domain", test: "TestTwoFoundersOfOneMeshNeverMix", edits: []edit{
		{"council/state.go", "Domain{Mesh: mesh, Founder: id}", "Domain{Mesh: mesh}"}}},
}
