"""Waits until one release of a RayService is in force and answers, or says why it does not.

Runs alone in a pod: the standard library of Python 3.10 or newer, nothing else of this project.
`workloads.release_check` puts these files into a ConfigMap, beside what is to be in force.
"""
