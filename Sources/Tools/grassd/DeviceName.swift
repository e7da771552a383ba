import ArgumentParser

/// A device as its user names it.
enum DeviceName: Hashable, ExpressibleByArgument {
  case cpu
  case gpu(Int)

  init?(argument: String) {
    switch argument {
    case "cpu": self = .cpu
    case "gpu": self = .gpu(0)
    default:
      guard argument.hasPrefix("gpu:"), let number = Int(argument.dropFirst(4)), number >= 0 else { return nil }
      self = .gpu(number)
    }
  }
}

/// Whose memory the region lies in.
enum RegionPlace: String, ExpressibleByArgument {
  case host
  case gpu
}
