import CPostgresSystem

/// How many processors this process may run on, as set by affinity (`taskset`, containers' cpusets); at least 1.
package var usableProcessorCount: Int { max(1, Int(postgres_usable_processors())) }
