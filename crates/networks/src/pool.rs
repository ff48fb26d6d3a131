//! Threads for work that is independent by construction.
//!
//! LibTorch's own threads split one matrix product and add its parts in another
//! order. Here whole networks run beside each other instead, each exactly as it
//! would alone: the number of threads changes no number.

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Runs jobs beside each other; with one thread, one after the other.
pub struct Pool {
    /// The threads beside the caller's.
    workers: Option<ThreadPool>,
}

impl Pool {
    /// A pool of `threads` threads, the caller's among them.
    ///
    /// # Panics
    /// If the system refuses a thread.
    pub fn new(threads: usize) -> Self {
        let workers = (threads > 1).then(|| {
            let builder = ThreadPoolBuilder::new().num_threads(threads - 1);
            builder.build().expect("the system starts a thread")
        });
        Self { workers }
    }

    /// Does all jobs and answers their results in order.
    pub fn run<T: Send, Job: FnOnce() -> T + Send>(&self, jobs: Vec<Job>) -> Vec<T> {
        let Some(workers) = &self.workers else {
            return jobs.into_iter().map(|job| job()).collect();
        };
        let mut results: Vec<Option<T>> = jobs.iter().map(|_| None).collect();
        workers.in_place_scope(|scope| {
            let mut pairs = jobs.into_iter().zip(&mut results);
            let own = pairs.next();
            for (job, result) in pairs {
                scope.spawn(move |_| *result = Some(job()));
            }
            if let Some((job, result)) = own {
                *result = Some(job());
            }
        });
        results.into_iter().map(|result| result.expect("the scope waits for all")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs_whatever_the_threads() {
        for threads in [1, 2, 3] {
            let jobs: Vec<_> = (0..7).map(|i| move || i * i).collect();
            assert_eq!(Pool::new(threads).run(jobs), [0, 1, 4, 9, 16, 25, 36]);
        }
    }
}
