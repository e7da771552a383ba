/// What a page frame of a host's memory is used for.
///
/// The raw values stand in images, one byte a frame; `grass_frame.h` has them for devices.
public enum FrameClass: UInt8, CaseIterable, Sendable {
  /// Nothing describes the frame, or its description could not be read.
  case unknown = 0
  /// The kernel's, in whatever way.
  case kernel = 1
  /// The allocator's: nobody uses it.
  case free = 2
  /// The page cache's, of files.
  case cache = 3
  /// The page cache's, with data that a file system keeps beside it.
  case privateCache = 4
  /// Of processes and of no file, or a huge page.
  case user = 5
  /// Small objects of the kernel.
  case slab = 6
  /// Page tables; told apart from `kernel` from Linux 6.12 on.
  case pageTable = 7
  /// Given back to who lent it, as by a balloon.
  case offline = 8
  /// Broken: reading it may end the host.
  case poisoned = 9
}
