/// What happened to a server, as a line for its log.
public struct ServerEvent: Sendable {
  public enum Weight: Sendable {
    case notice, warning, error
  }

  public let weight: Weight
  public let text: String
  /// Names and values that belong to it.
  public let details: [(name: String, value: String)]

  package init(weight: Weight, text: String, details: [(name: String, value: String)] = []) {
    self.weight = weight
    self.text = text
    self.details = details
  }
}

extension ServerEvent {
  init(_ event: Watch.Event, path: String) {
    (weight, text, details) =
      switch event {
      case .kernelFound(let release, let place):
        (.notice, "kernel found", [("release", release), ("note", "\(place)")])
      case .layout(let name): (.notice, "the memory's layout is decided", [("layout", name)])
      case .kernelLost(let release):
        (.warning, "the kernel is gone; looking for the next one", [("release", release)])
      case .monitorsLoaded(let names):
        (.notice, "monitors loaded", [("monitors", names.joined(separator: " "))])
      case .monitorsFailed(let reason): (.error, "monitors not loaded", [("reason", reason)])
      case .nothingToReload:
        (.warning, "nothing to read again: there is no kernel yet, or no --monitors were given", [])
      case .note(let text): (.warning, text, [])
      case .identityAltered(let names):
        (
          .error, "what tells this kernel from others was altered; it is watched on",
          [("altered", names.joined(separator: " "))]
        )
      case .memoryCut:
        (
          .error, "the memory's file became shorter: reads fail from now on; start grassd again once it is whole",
          [("path", path)]
        )
      }
  }
}
