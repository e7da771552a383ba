public import ArgumentParser
public import Daemon

extension DeviceName: ExpressibleByArgument {
  public init?(argument: String) { self.init(argument) }
}

/// Whose memory the region lies in.
enum RegionPlace: String, ExpressibleByArgument {
  case host
  case gpu
}
