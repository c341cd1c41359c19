"""S2DC taken apart, and trained. The method is read in this order; a file imports only from those before it:

| file | holds | paper |
| --- | --- | --- |
| options | what options may hold; all that is wrong is told at once | |
| geometry | the affine H, token centres, ground-truth matches, the warp itself | 3.2, eqs. 2-3 |
| matching | similarity, dual-softmax, Sinkhorn, Sharpe ratio, match statistics | 3.2-3.3, eqs. 4, 6 |
| losses | InfoNCE, patch-to-patch, patch-to-structure, their sum and its presets | eqs. 1, 5, 7-9 |
| encoder | the Swin encoder (MONAI's) and its sizes | 3.1 |
| model | projection heads, student and teacher, queue | 3.1 |
| views | a region, its sub-volumes, the augmented counterpart and the H between them | 3.1 |
| features | token maps, similarity heatmaps, organ tokens, silhouette, PCA maps | 4.3 |
| plots/ | one function per figure, one file per lesson | figs. 1-7 |

Its appendix, which a first reading leaves out:

| file | holds | paper |
| --- | --- | --- |
| streaming | the statistics of the similarity matrix without the matrix; Sinkhorn's potentials | 3.2-3.3, eqs. 4, 6 |
| official | the structure losses as the published code has them | |
| weights | an encoder's weights in and out: files of several projects, read without running code | |
| statedicts | an encoder's tensors, found in a file by what it holds | |
| pointers | what lies where a file should be: a Git LFS pointer, a web page, nothing | |
| intervals | how far a number may be trusted, over trainings or cases | |
| threads | waiting threads that sleep, and no more of them than the process may use | |

The rooms around it; tests/test_imports.py says who may import from whom:

| room | holds | paper |
| --- | --- | --- |
| methods/ | pretext tasks, one a file, S2DC the first; their contract, and parts that several share | eq. 9, table 1 |
| training/ | what every training shares: steps, checkpoints, processes, the order of what is read | |
| pretraining/ | recipes of pre-training, regions, a run, what it shows and costs | 3.1 |
| downstream/ | fine-tuning for four tasks, and its scores | tables 1, 3-6 |
| evaluation/ | what frozen features know: silhouettes, linear probes, carried labels; token maps in files | figs. 4-5 |
| library/ | the weights and the numbers that come with the course | |
| studies/ | trainings over seeds whose numbers the course shows, and the parts of pages made from them | tables 7-8 |
| data/ | phantoms, scans, manifests | |
| explorer/ | click a voxel and see what encoders hold alike | fig. 1B |
| exercises/ | how an exercise is checked, and the cells and pages made from it | |
| cli/ | the command s2dc | |
"""

from s2dc_core.threads import share_the_machine

__version__ = "0.1.0"

share_the_machine()  # here, because OpenMP must find it when torch is loaded
