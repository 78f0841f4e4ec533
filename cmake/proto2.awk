# Rewrites one of our proto3 files as proto2 with the same wire format, for protobuf-c: before its version 1.5 it refuses
# proto3 `optional`, and it would not tell an absent scalar from a zero. Expects one declaration on a line.
/^syntax = "proto3";/ { print "syntax = \"proto2\";"; next }
/^ *oneof / { in_oneof = 1; print; next }
/^ *}/ { in_oneof = 0; print; next }
/^ *repeated (int32|int64|uint32|uint64|fixed32|fixed64|sfixed32|sfixed64|bool|float|double) / { sub(/;/, " [packed = true];"); print; next }
/^ *(optional|repeated|reserved|message|enum|package) / { print; next }
!in_oneof && /^ *[A-Za-z0-9_.]+ [a-z0-9_]+ = [0-9]+;/ { match($0, /^ */); $0 = substr($0, 1, RLENGTH) "optional " substr($0, RLENGTH + 1) }
{ print }
