/// Who asks, and what for they may.
struct Viewer: Sendable {
  let name: String
  /// Whether they may acknowledge, plan and see who looked at what.
  let isAdmin: Bool
  /// What their forms have to bring, so that no other site's form passes for theirs.
  let token: String
  /// Whether they came by a session that can be ended.
  let hasSession: Bool
}
