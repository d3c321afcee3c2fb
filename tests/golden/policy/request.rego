# What a house might decide about requests and answers, for tests/gateway/policy_engine.rs.
package odock.request

import rego.v1

embargoed := {"nightfall"}

hidden := {"Bob", "upstream"}

# Who is not of acme is not known here.
default decision := {"allow": false, "reason": "nothing here allows this caller"}

decision := {
	"allow": false,
	"code": "policy_embargo",
	"reason": sprintf("%v names %v, which is under embargo", [input.caller.team.name, word]),
} if {
	input.phase == "request"
	some word in embargoed
	some text in input.texts
	contains(lower(text.text), word)
} else := {"allow": false, "code": "policy_streams", "status": 451, "reason": "streams are not recorded"} if {
	input.stream
} else := {
	"allow": true,
	"redact": spans,
	"transform": {"tags": {"policy": "2026-11"}},
} if {
	input.caller.organisation.name == "acme"
}

# Positions are characters, as Rego counts them.
spans := [{"path": text.path, "start": at, "end": at + count(name)} |
	some text in input.texts
	some name in hidden
	some at in indexof_n(text.text, name)
]
