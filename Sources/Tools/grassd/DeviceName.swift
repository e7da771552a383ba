import ArgumentParser
import Daemon

extension DeviceName: @retroactive ExpressibleByArgument {
  public init?(argument: String) { self.init(argument) }
}

/// Whose memory the region lies in.
enum RegionPlace: String, ExpressibleByArgument {
  case host
  case gpu
}
